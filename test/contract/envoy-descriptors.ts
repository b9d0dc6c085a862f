import { readFile } from 'node:fs/promises';
import { create, createFileRegistry, type FileRegistry, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  type DescriptorProto,
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
} from '@bufbuild/protobuf/wkt';
import { fetchEnvoy } from '../../lab/envoy-binary.ts';

/** What an Envoy binary itself says about its API. */
export interface EnvoyDescriptors {
  readonly files: readonly FileDescriptorProto[];
  /** To encode and decode the messages of these files. */
  readonly registry: FileRegistry;
}

/**
 * The descriptors that Envoy's generated C++ code carries, uncompressed, in its read-only data: the one definition of
 * the API that is Envoy's own, of exactly this version, and not a copy that somebody has to keep up to date.
 * @param protoFiles names such as `envoy/config/core/v3/base.proto`; what they import comes along
 */
export async function readEnvoyDescriptors(version: string, protoFiles: readonly string[]): Promise<EnvoyDescriptors> {
  const binary = await readFile(await fetchEnvoy(version));
  const files = filesWithImports(binary, protoFiles);
  return { files, registry: createFileRegistry(create(FileDescriptorSetSchema, { file: files })) };
}

/** Imported files first, as a FileDescriptorSet has them. */
function filesWithImports(binary: Buffer, protoFiles: readonly string[]): FileDescriptorProto[] {
  const found = new Map<string, FileDescriptorProto>();
  const visit = (name: string): void => {
    if (found.has(name)) return;
    const file = withoutAnnotations(findFile(binary, name));
    file.dependency.forEach(visit);
    found.set(name, file);
  };
  protoFiles.forEach(visit);
  return [...found.values()];
}

/**
 * gRPC, which is linked into Envoy, brings a second copy of some files, and that copy need not be of the same version.
 * It was written by another generator: json_name is filled in, which the C++ generator always leaves out.
 */
function findFile(binary: Buffer, name: string): FileDescriptorProto {
  const files = copiesOf(binary, name).map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
  const [file, ...others] = files.filter((file) => !file.messageType.some(hasJsonName));
  if (file === undefined || others.length > 0) {
    throw new Error(`the Envoy binary has ${files.length} descriptors of ${name}; cannot tell which is Envoy's own`);
  }
  return file;
}

/**
 * A descriptor is serialized in the order of the field numbers: it starts with its name, which no other bytes look
 * like, and ends with its syntax.
 */
function copiesOf(binary: Buffer, name: string): Uint8Array[] {
  const PACKAGE_TAG = 0x12;
  const start = Buffer.from([...toBinary(FileDescriptorProtoSchema, fileWith({ name })), PACKAGE_TAG]);
  const end = toBinary(FileDescriptorProtoSchema, fileWith({ syntax: 'proto3' }));

  const copies: Uint8Array[] = [];
  for (let from = binary.indexOf(start); from !== -1; from = binary.indexOf(start, from + 1)) {
    const to = binary.indexOf(end, from);
    if (to === -1) throw new Error(`${name} in the Envoy binary is not a proto3 file`);
    // A copy, because options that are not known here stay in the message as views of these bytes, and a view would
    // keep the whole binary in memory.
    copies.push(Uint8Array.from(binary.subarray(from, to + end.length)));
  }
  return copies;
}

function fileWith(fields: { name: string } | { syntax: string }): FileDescriptorProto {
  return create(FileDescriptorProtoSchema, fields);
}

function hasJsonName(message: DescriptorProto): boolean {
  return message.field.some((field) => field.jsonName !== '') || message.nestedType.some(hasJsonName);
}

/**
 * Options such as validation rules have no effect on the wire, and the files that define them are proto2, which
 * `copiesOf` cannot find the end of. A type that should be missing after all is an error in createFileRegistry.
 */
function withoutAnnotations(file: FileDescriptorProto): FileDescriptorProto {
  const annotations = /^(envoy\/annotations|udpa\/annotations|xds\/annotations|validate)\//;
  file.dependency = file.dependency.filter((name) => !annotations.test(name));
  // It has indexes into dependency, and matters only to the compiler.
  file.publicDependency = [];
  return file;
}
