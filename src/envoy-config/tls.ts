import type { Config, EdgeTlsConfig, TlsConfig } from '../config/config.ts';
import { type JsonObject, typed } from './json.ts';
import { EDGE, HOP_EDGE, SIDECAR_CLUSTER } from './names.ts';
import { fileNameOf } from './watched-files.ts';

/**
 * Where Debian, Ubuntu and Alpine, and so Envoy's images, have the CAs that everybody trusts. It is never a secret: it
 * changes only with the system, and some CA in it may have ended, which of a secret would be an alert.
 */
export const SYSTEM_CA_FILE = '/etc/ssl/certs/ca-certificates.crt';

/** A file in which Envoy reads where a certificate is. It watches the files that are named there as well. */
export interface SecretFile {
  /** In `envoy.secrets_dir`. */
  readonly name: string;
  readonly content: JsonObject;
}

/** What one cluster or listener needs for TLS. */
interface TlsUser {
  /** Unique among all of them; a part of file names. */
  readonly name: string;
  readonly certificate: { readonly certFile: string; readonly keyFile: string } | null;
  /** Whose certificates are taken; null: the system's CAs of a cluster, and of a listener none, for it asks for none. */
  readonly caFile: string | null;
}

/** TLS towards a cluster, whose certificate must be of the CA and bear the name `sni`. */
export function upstreamTls(cluster: string, tls: TlsConfig, secretsDir: string | null, alpn: readonly string[] = []) {
  const user = clusterUser(cluster, tls);
  return transportSocket('UpstreamTlsContext', {
    sni: tls.sni,
    common_tls_context: {
      ...(alpn.length === 0 ? {} : { alpn_protocols: alpn }),
      ...certificates(user, secretsDir),
      ...(user.caFile === null
        ? { validation_context: { trusted_ca: { filename: SYSTEM_CA_FILE }, ...matchName(tls.sni) } }
        : validation(user.name, user.caFile, secretsDir, matchName(tls.sni))),
    },
  });
}

/** TLS of a listener; with a `client_ca_file` it takes no client without a certificate. */
export function downstreamTls(listener: string, tls: EdgeTlsConfig, secretsDir: string | null): JsonObject {
  const user = listenerUser(listener, tls);
  return transportSocket('DownstreamTlsContext', {
    ...(tls.clientCaFile === null ? {} : { require_client_certificate: true, ...withoutResumption() }),
    common_tls_context: {
      alpn_protocols: ['h2', 'http/1.1'],
      ...certificates(user, secretsDir),
      ...(user.caFile === null ? {} : validation(user.name, user.caFile, secretsDir, {})),
    },
  });
}

/** Each connection's certificate counts at the time: one that was resumed would bring that of an earlier one. */
function withoutResumption(): JsonObject {
  return { disable_stateless_session_resumption: true, disable_stateful_session_resumption: true };
}

/** The files that a rendered bootstrap refers to; none without `envoy.secrets_dir`. */
export function renderSecrets(config: Config): readonly SecretFile[] {
  const { secretsDir } = config.envoy;
  if (secretsDir === null) return [];
  return tlsUsers(config).flatMap((user) => {
    const { name, certificate, caFile } = user;
    return [
      ...(certificate === null
        ? []
        : [secretFile(certificateSecret(name), { tls_certificate: tlsCertificate(certificate) })]),
      ...(caFile === null
        ? []
        : [secretFile(caSecret(name), { validation_context: { trusted_ca: { filename: caFile } } })]),
    ];
  });
}

/** Whether the rendered Envoy has certificates that it reads at its start only. */
export function readsCertificatesOnce(config: Config): boolean {
  const hasFiles = ({ certificate, caFile }: TlsUser) => certificate !== null || caFile !== null;
  return config.envoy.secretsDir === null && tlsUsers(config).some(hasFiles);
}

function tlsUsers({ applications, envoy }: Config): TlsUser[] {
  const pools = applications.flatMap(({ localPool, remotePools }) => [localPool, ...remotePools]);
  return [
    ...(envoy.listenTls === null ? [] : [listenerUser(EDGE, envoy.listenTls)]),
    ...(envoy.hopListenTls === null ? [] : [listenerUser(HOP_EDGE, envoy.hopListenTls)]),
    ...pools.flatMap(({ cluster, tls }) => (tls === null ? [] : [clusterUser(cluster, tls)])),
    ...(envoy.sidecarTls === null ? [] : [clusterUser(SIDECAR_CLUSTER, envoy.sidecarTls)]),
  ];
}

function clusterUser(cluster: string, { certFile, keyFile, caFile }: TlsConfig): TlsUser {
  return {
    name: `cluster_${fileNameOf(cluster)}`,
    certificate: certFile === null || keyFile === null ? null : { certFile, keyFile },
    caFile,
  };
}

function listenerUser(listener: string, { certFile, keyFile, clientCaFile }: EdgeTlsConfig): TlsUser {
  return { name: `listener_${listener}`, certificate: { certFile, keyFile }, caFile: clientCaFile };
}

const certificateSecret = (user: string) => `${user}_certificate`;
const caSecret = (user: string) => `${user}_ca`;

function certificates({ name, certificate }: TlsUser, secretsDir: string | null): JsonObject {
  if (certificate === null) return {};
  if (secretsDir === null) return { tls_certificates: [tlsCertificate(certificate)] };
  return { tls_certificate_sds_secret_configs: [secretConfig(secretsDir, certificateSecret(name))] };
}

function tlsCertificate({ certFile, keyFile }: { readonly certFile: string; readonly keyFile: string }): JsonObject {
  return { certificate_chain: { filename: certFile }, private_key: { filename: keyFile } };
}

function matchName(sni: string): JsonObject {
  return { match_typed_subject_alt_names: [{ san_type: 'DNS', matcher: { exact: sni } }] };
}

/** @param more of the validation, which does not come from a file */
function validation(name: string, caFile: string, secretsDir: string | null, more: JsonObject): JsonObject {
  if (secretsDir === null) return { validation_context: { trusted_ca: { filename: caFile }, ...more } };
  return {
    combined_validation_context: {
      default_validation_context: more,
      validation_context_sds_secret_config: secretConfig(secretsDir, caSecret(name)),
    },
  };
}

function secretConfig(secretsDir: string, name: string): JsonObject {
  return {
    name,
    sds_config: { path_config_source: { path: secretPath(secretsDir, name) }, resource_api_version: 'V3' },
  };
}

function secretFile(name: string, secret: JsonObject): SecretFile {
  return {
    name: `${name}.yaml`,
    content: { resources: [typed('envoy.extensions.transport_sockets.tls.v3.Secret', { name, ...secret })] },
  };
}

function secretPath(secretsDir: string, name: string): string {
  return `${secretsDir}/${name}.yaml`;
}

function transportSocket(context: 'UpstreamTlsContext' | 'DownstreamTlsContext', fields: JsonObject): JsonObject {
  return {
    name: 'envoy.transport_sockets.tls',
    typed_config: typed(`envoy.extensions.transport_sockets.tls.v3.${context}`, fields),
  };
}
