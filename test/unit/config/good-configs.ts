/** Only what has no default. */
export const MINIMAL = `site: east
local_pool:
  cluster: local_pool
  cookie: KVAAVROI
remote_pools:
  - site: west
    cluster: remote_pool
    cookie: DDVHSLLQ
`;

/** Every key, each with a value that is not its default. */
export const EVERY_KEY = `site: east-1
listen: unix:/run/site-persistence/ext_proc.sock
ops_listen: "[::1]:9103"
ops_listen_tls: { cert_file: /etc/ops.pem, key_file: /etc/ops.key, client_ca_file: /etc/ops-ca.pem }
metrics_listen: 0.0.0.0:9104
metrics_listen_tls: { cert_file: /etc/metrics.pem, key_file: /etc/metrics.key, client_ca_file: /etc/metrics-ca.pem }
ops_buttons: true
socket: { mode: "0600", owner: 1000, group: 1001 }
insecure: true
status_uri: /status/of/local_pool
on_owner_down: keep
both_cookies: local
refusal_status: 421
drain: true
health: { poll_interval: 100ms, stale_after: 1.5s, hold_up: 30s }
local_pool:
  cluster: app|east
  cookie: { name: __Secure-KVAAVROI, also: [__Secure-OLDEAST], path: /app, domain: .example.com, ttl: 12h, same_site: None, secure: true }
  min_up: 2
  servers: [app-1.local:3001, 10.0.0.2:3002, { address: 10.0.0.3:3003, drain: true }]
  health_check: { path: /healthz, host: app.example.com, expect: "200,301-302", interval: 500ms, timeout: 2s }
  protocol: downstream
  tls: { sni: app.internal, ca_file: /etc/app-ca.pem }
  connect_timeout: 500ms
  idle_timeout: 60s
  eject: { errors: 3, for: 60s }
remote_pools:
  - site: west
    cluster: remote_pool
    ops_url: https://west-ops.example.com:9003/
    redirect: https://Shop.West.example.com:443/
    cookie: { name: DDVHSLLQ, same_site: Lax }
    min_up: 3
    servers:
      - west.example.com:443
    health_check: { host: west.example.com, interval: 2s, timeout: 3s, unhealthy: 2 }
    protocol: http2
    idle_timeout: 10s
    tls:
      sni: west.example.com
      ca_file: /etc/ca.pem
      cert_file: /etc/cert.pem
      key_file: /etc/key.pem
  - site: north
    cluster: north_pool
    cookie:
      name: NNPOLEXY
      same_site: Strict
    servers: [10.3.0.1:80]
envoy:
  admin: unix:/run/envoy/admin.sock
  listen: 0.0.0.0:8080
  listen_tls: { cert_file: /etc/edge.pem, key_file: /etc/edge.key }
  hop_listen: 0.0.0.0:8443
  hop_listen_tls: { cert_file: /etc/hop.pem, key_file: /etc/hop.key, client_ca_file: /etc/sites.pem }
  hop_listen_only: true
  default_host: app.example.com
  secrets_dir: /etc/envoy/secrets/
  overlay: edge-extra.yaml
  sidecars: [unix:/run/site-persistence/ext_proc.sock, 127.0.0.1:9102]
  version: "1.36"
  fast_path: true
  retry_on_reset: false
  stream_idle_timeout: 0s
  limits: { connections: 1000, heap: 1.5GiB }
  trusted_hops: 1
  proxy_protocol: true
  node_id: east-edge-2
  headers_with_underscores: reject
  normalize_path: false
  merge_slashes: true
  path_with_escaped_slashes: unescape_and_redirect
`;

/** The example of the design, word for word. */
export const DESIGN_EXAMPLE = `site: east
listen: 127.0.0.1:9002            # ext_proc gRPC; or unix:/run/site-persistence/ext_proc.sock
ops_listen: 127.0.0.1:9003        # metrics, health, status page, drain
status_uri: /local_pool_status
on_owner_down: adopt              # adopt | keep | refuse
both_cookies: remote              # remote | local
health:  { poll_interval: 250ms, stale_after: 3s, hold_up: 0s }
local_pool:
  cluster: local_pool
  cookie: { name: KVAAVROI, path: /, same_site: Lax, secure: false }
  min_up: 1
  servers: [127.0.0.1:3001, 127.0.0.1:3002]     # used by \`envoy\`; host names allowed
  health_check: { path: /healthz, interval: 1s }
remote_pools:
  - site: west
    cluster: remote_pool
    cookie: { name: DDVHSLLQ, path: / }
    servers: [127.0.0.1:8081]                   # west's virtual IP
    tls: null                                   # or { sni, ca_file, cert_file, key_file }
envoy:
  admin: http://127.0.0.1:9901                  # or unix:/run/envoy/admin.sock
  listen: 0.0.0.0:8080
  sidecars: [127.0.0.1:9002]                    # default: this file's \`listen\`; several for restarts without a skipped decision
  version: "1.40"                               # the Envoy that \`envoy\` renders for: 1.36 to 1.40; older ones get what they can do
  fast_path: true
`;
