/**
 * Why a file can't be read, to be said after its name.
 * @param fix what to do where there is no such file, and where it is a directory
 */
export function whyUnreadable(error: unknown, fix: { readonly missing?: string; readonly directory: string }): string {
  switch (error instanceof Error && 'code' in error ? error.code : undefined) {
    case 'ENOENT':
      return fix.missing === undefined ? 'no such file' : `no such file: ${fix.missing}`;
    case 'EACCES':
      return 'no permission to read it';
    case 'EISDIR':
      return `is a directory: ${fix.directory}`;
    default:
      return `cannot be read: ${error instanceof Error ? error.message : String(error)}`;
  }
}
