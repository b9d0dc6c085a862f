import { createHash } from 'node:crypto';
import { Document } from 'yaml';
import { isLoopback } from '../config/address.ts';
import type { Config } from '../config/config.ts';
import { renderBootstrap } from './bootstrap.ts';
import { splitConfig, type WatchedFile } from './config-dir.ts';
import type { Json, JsonObject } from './json.ts';
import { createCommenter } from './print-comments.ts';
import { printYaml } from './print-yaml.ts';
import type { FileKind } from './watched-files.ts';

/**
 * The Envoy bootstrap of a site as commented YAML.
 * @throws Error when the config lacks what only rendering needs
 */
export function printBootstrap(config: Config): string {
  const { configDir } = config.envoy;
  const bootstrap = configDir === null ? renderBootstrap(config) : splitConfig(config, configDir).bootstrap;
  const source = config.envoy.overlay === null ? '' : ' and its overlay';
  const whole =
    '"timeout: 0s" is no limit: a request may take as\n long as it needs. "*same1" is the part with "&same1" once more.';
  const comment =
    ` Envoy ${config.envoy.version} bootstrap of site ${config.site}, printed by "site-persistence envoy" from the site's\n` +
    ` config file${source}. Change ${source === '' ? 'that file' : 'those'} and print again instead of editing this one. ` +
    (configDir === null ? whole : `All else is in ${configDir},\n where the sidecars write it with each reload.`);
  return printYaml(bootstrap, { ...printingOf(config), comment, commentOnAdmin: commentOnAdmin(config) });
}

function commentOnAdmin({ envoy: { admin } }: Config): string | null {
  if (admin.kind !== 'tcp') return null;
  const who = isLoopback(admin.host) ? 'Every user of this machine' : 'UNSAFE: every client that reaches this address';
  return ` ${who} can ask it. Better envoy.admin: unix:/run/envoy/admin.sock, which is for one group only.`;
}
/** @param prefix that of names, which the comments do not have */
function printingOf(config: Config, prefix = '') {
  return { comments: createCommenter(config, prefix), isShared: true, isScoped: config.applications.length > 1 };
}

/** A file of `envoy.config_dir` as it is written. */
export interface PrintedFile {
  readonly name: string;
  readonly kind: FileKind;
  readonly text: string;
  /** By which Envoy says that it has taken it: the same for the same content. */
  readonly version: string;
}

export function printFile({ name, kind, resources }: WatchedFile, config: Config): PrintedFile {
  const body = printYaml({ resources }, printingOf(config));
  const version = createHash('sha256').update(body).digest('hex').slice(0, 12);
  return { name, kind, version, text: `${FILE_COMMENT}version_info: "${version}"\n${body}` };
}

/** Of each such file, to tell it from an operator's own. */
export const FILE_COMMENT =
  '# Written by "site-persistence envoy" and "serve" from the config file of the site, and watched by Envoy. Change that\n' +
  '# file: what is changed here is lost with its next reload.\n';

/** A part of it, without references, which somebody may move into another file. */
export function printPart(part: Json, config: Config, { what, prefix }: { what: string; prefix: string }): string {
  const comment = ` Envoy ${config.envoy.version}, site ${config.site}: ${what}`;
  return printYaml(part, { ...printingOf(config, prefix), comment, isShared: false });
}

/** A file that the bootstrap refers to, as YAML. */
export function printSecret(content: JsonObject): string {
  const document = new Document(content, { aliasDuplicateObjects: false });
  document.commentBefore =
    ' Where Envoy finds a certificate, printed by "site-persistence envoy". It watches the files that are named here.';
  return document.toString({ lineWidth: 0 });
}
