{{- define "sp.name" -}}
{{ .Release.Name | replace "." "-" | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "sp.selector" -}}
app.kubernetes.io/name: site-persistence
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sp.labels" -}}
{{ include "sp.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "sp.metadata" -}}
name: {{ include "sp.name" . }}
namespace: {{ .Release.Namespace }}
labels: {{- include "sp.labels" . | nindent 2 }}
{{- end }}

{{/* The port of an address. */}}
{{- define "sp.port" -}}
{{ regexFind "[0-9]+$" . }}
{{- end }}

{{/* All addresses of the pod, in the family that the edge has. */}}
{{- define "sp.any" -}}
{{ hasPrefix "[" .Values.envoy.listen | ternary "::" "0.0.0.0" }}
{{- end }}

{{/* What the pod's shape settles, as YAML. */}}
{{- define "sp.fixed" -}}
listen: unix:/run/site-persistence/1.sock
# The pod's own loopback: for commands in it, and for kubectl port-forward.
ops_listen: 127.0.0.1:9003
# For metrics_listen, which changes nothing and which Prometheus and the probes must reach.
insecure: true
envoy:
  admin: unix:/run/site-persistence/admin.sock
  config_dir: /etc/envoy/site-persistence
  overlay: overlay.yaml
  sidecars: [unix:/run/site-persistence/1.sock, unix:/run/site-persistence/2.sock]
{{- end }}

{{/* site.yaml: the values without the chart's own, with what the pod's shape settles. */}}
{{- define "sp.site" -}}
{{- $site := omit .Values "kubernetes" "global" "metrics_listen" "socket" | mustDeepCopy }}
{{- $fixed := include "sp.fixed" . | fromYaml }}
{{- range $key := list "listen_tls" "ops_listen_tls" "metrics_listen_tls" }}
{{- if get $site $key }}
{{- fail (printf "%s: is the chart's to set: remove it from the values" $key) }}
{{- end }}
{{- end }}
{{- range $key := list "secrets_dir" "overlay" "node_id" "sidecar_tls" }}
{{- if and (get $site.envoy $key) (ne (toJson (get $site.envoy $key)) (toJson (get $fixed.envoy $key))) }}
{{- fail (printf "envoy.%s: is the chart's to set: remove it from the values%s" $key (ternary "; an overlay goes into kubernetes.overlay" "" (eq $key "overlay"))) }}
{{- end }}
{{- end }}
{{- $port := include "sp.port" .Values.envoy.listen }}
{{- if has $port (list "9902" "9091" "9092" "9003" "9004") }}
{{- fail (printf "envoy.listen: port %s is taken in the pod: choose another" $port) }}
{{- end }}
{{- if not (hasKey $site "site") }}
{{- fail "site: is missing: give the chart a site.yaml, helm install NAME CHART -f site.yaml" }}
{{- end }}
{{- mustMergeOverwrite $site $fixed | toYaml }}
{{- end }}

{{/*
Envoy's overlay: the user's, and a listener for Kubernetes and Prometheus, who can't ask a Unix socket; and the one more path of the
admin interface that ends a pod gently.
*/}}
{{- define "sp.overlay" -}}
{{- $ours := tpl (.Files.Get "files/overlay.yaml") . | fromYaml }}
{{- $overlay := .Values.kubernetes.overlay | default dict | mustDeepCopy }}
{{- $theirs := get $overlay "static_resources" | default dict }}
{{- range $list := list "listeners" "clusters" }}
{{- $more := get $theirs $list | default list }}
{{- if kindIs "map" $more }}{{ $more = get $more "$append" | default list }}{{ end }}
{{- $_ := set $theirs $list (concat (get $ours.static_resources $list) $more) }}
{{- end }}
{{- $_ := set $overlay "static_resources" $theirs }}
{{- if not (has (.Values.envoy.version | default "1.40") (list "1.36" "1.37")) }}
{{- $admin := get $overlay "admin" | default dict }}
{{- $more := get $admin "allow_paths" | default list }}
{{- if kindIs "map" $more }}
{{- $more = get $more "$append" | default list }}
{{- $_ := set $admin "allow_paths" (dict "$append" (concat (get $ours.allow_paths "$append") $more)) }}
{{- else if $more }}
{{- $_ := set $admin "allow_paths" (concat (get $ours.allow_paths "$append") $more) }}
{{- else }}
{{- $_ := set $admin "allow_paths" $ours.allow_paths }}
{{- end }}
{{- $_ := set $overlay "admin" $admin }}
{{- end }}
{{- toYaml $overlay }}
{{- end }}

{{- define "sp.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* Unlike a Secret's the name of a volume has no dots, and at most 63 characters. */}}
{{- define "sp.secretVolume" -}}
secret-{{ . | replace "." "-" | trunc 45 | trimSuffix "-" }}-{{ . | sha256sum | trunc 8 }}
{{- end }}

{{- define "sp.secretMounts" -}}
{{- range .Values.kubernetes.secrets }}
- { name: {{ include "sp.secretVolume" . }}, mountPath: /etc/site-persistence-secrets/{{ . }}, readOnly: true }
{{- end }}
{{- end }}
