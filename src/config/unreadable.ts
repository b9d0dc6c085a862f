/**
 * Why a file can't be read, to be said after its name.
 * @param mend what to do where there is no such file, and where it is a directory
 */
export function whyUnreadable(error: unknown, mend: { readonly missing?: string; readonly directory: string }): string {
  switch (error instanceof Error && 'code' in error ? error.code : undefined) {
    case 'ENOENT':
      return mend.missing === undefined ? 'no such file' : `no such file: ${mend.missing}`;
    case 'EACCES':
      return 'no permission to read it';
    case 'EISDIR':
      return `is a directory: ${mend.directory}`;
    default:
      return `cannot be read: ${error instanceof Error ? error.message : String(error)}`;
  }
}
