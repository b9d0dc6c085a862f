/** The gRPC service that Envoy calls, and the name under which the sidecar reports its health. */
export const EXT_PROC_SERVICE = 'envoy.service.ext_proc.v3.ExternalProcessor';
