/** The runtime flag that makes Envoy end an ext_proc stream in peace instead of by RST_STREAM. Off by default. */
export const GRACEFUL_CLOSE_FLAG = 'envoy.reloadable_features.ext_proc_graceful_grpc_close';
