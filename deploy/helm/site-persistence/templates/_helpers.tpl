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

{{/* What the pod's shape settles, as YAML. */}}
{{- define "sp.fixed" -}}
listen: unix:/run/site-persistence/1.sock
ops_listen: unix:/run/site-persistence/1.ops
# For metrics_listen, which changes nothing and which Prometheus and the probes must reach: all else is a socket.
insecure: true
envoy:
  admin: unix:/run/site-persistence/admin.sock
  config_dir: /etc/envoy/site-persistence
  overlay: overlay.yaml
  sidecars: [unix:/run/site-persistence/1.sock, unix:/run/site-persistence/2.sock]
{{- end }}

{{/* site.yaml: the values without the chart's own, with what the pod's shape settles. */}}
{{- define "sp.site" -}}
{{- $site := omit .Values "kubernetes" "global" | mustDeepCopy }}
{{- $fixed := include "sp.fixed" . | fromYaml }}
{{- range $key := list "listen" "ops_listen" "metrics_listen" "listen_tls" "ops_listen_tls" "metrics_listen_tls" "socket" "insecure" }}
{{- if and (hasKey $site $key) (ne (toJson (get $site $key)) (toJson (get $fixed $key))) }}
{{- fail (printf "%s: is the chart's to set: remove it from the values" $key) }}
{{- end }}
{{- end }}
{{- range $key := list "admin" "config_dir" "secrets_dir" "overlay" "node_id" "sidecars" "sidecar_tls" }}
{{- if and (hasKey $site.envoy $key) (ne (toJson (get $site.envoy $key)) (toJson (get $fixed.envoy $key))) }}
{{- fail (printf "envoy.%s: is the chart's to set: remove it from the values%s" $key (ternary "; an overlay goes into kubernetes.overlay" "" (eq $key "overlay"))) }}
{{- end }}
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
{{- $overlay := mustDeepCopy .Values.kubernetes.overlay }}
{{- $theirs := get $overlay "static_resources" | default dict }}
{{- range $list := list "listeners" "clusters" }}
{{- $_ := set $theirs $list (concat (get $ours.static_resources $list) (get $theirs $list | default list)) }}
{{- end }}
{{- $_ := set $overlay "static_resources" $theirs }}
{{- if not (has (.Values.envoy.version | default "1.40") (list "1.36" "1.37")) }}
{{- $_ := set $overlay "admin" (mustMergeOverwrite (dict "allow_paths" $ours.allow_paths) (get $overlay "admin" | default dict)) }}
{{- end }}
{{- toYaml $overlay }}
{{- end }}

{{- define "sp.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "sp.secretMounts" -}}
{{- range .Values.kubernetes.secrets }}
- { name: secret-{{ . }}, mountPath: /etc/site-persistence-secrets/{{ . }}, readOnly: true }
{{- end }}
{{- end }}
