/** Of each supported major version the newest that npm has for x86_64 and arm64. */
export const NODE_RELEASES = ['20.20.2', '22.23.3', '24.21.0'] as const;
export type NodeRelease = (typeof NODE_RELEASES)[number];
