import { enumToJson, isFieldSet } from '@bufbuild/protobuf';
import {
  type DescriptorProto,
  type EnumDescriptorProto,
  type FieldDescriptorProto,
  FieldDescriptorProto_LabelSchema,
  FieldDescriptorProto_TypeSchema,
  FieldDescriptorProtoSchema,
  type FileDescriptorProto,
  type ServiceDescriptorProto,
} from '@bufbuild/protobuf/wkt';

/** Everything about a field that a peer can notice on the wire, in words, so that a failed comparison reads well. */
export interface FieldShape {
  readonly number: number;
  readonly type: string;
  readonly label: string;
  readonly oneof: string | null;
  /** Of a message or an enum: its full name. */
  readonly typeName: string | null;
}

export interface MethodShape {
  readonly input: string;
  readonly output: string;
  readonly clientStreaming: boolean;
  readonly serverStreaming: boolean;
}

/** What proto files define, by full name and then by field, value or method name. */
export interface ProtoShape {
  readonly messages: ReadonlyMap<string, Readonly<Record<string, FieldShape>>>;
  readonly enums: ReadonlyMap<string, Readonly<Record<string, number>>>;
  readonly services: ReadonlyMap<string, Readonly<Record<string, MethodShape>>>;
}

/** @param files with all that they import, or relative type names cannot be told apart */
export function shapeOf(files: readonly FileDescriptorProto[]): ProtoShape {
  const messages = files.flatMap((file) => messagesIn(file.messageType, file.package));
  const enums = [
    ...files.flatMap((file) => named(file.enumType, file.package)),
    ...messages.flatMap(([scope, message]) => named(message.enumType, scope)),
  ];
  const services = files.flatMap((file) => named(file.service, file.package));
  const types = new Set([...messages, ...enums].map(([name]) => name));
  return {
    messages: new Map(messages.map(([name, message]) => [name, fieldsOf(message, name, types)])),
    enums: new Map(enums.map(([name, definition]) => [name, valuesOf(definition)])),
    services: new Map(services.map(([name, service]) => [name, methodsOf(service)])),
  };
}

function named<T extends { name: string }>(definitions: readonly T[], scope: string): [string, T][] {
  return definitions.map((definition) => [`${scope}.${definition.name}`, definition]);
}

function messagesIn(definitions: readonly DescriptorProto[], scope: string): [string, DescriptorProto][] {
  return named(definitions, scope).flatMap(([name, message]) => [
    [name, message],
    ...messagesIn(message.nestedType, name),
  ]);
}

function fieldsOf(message: DescriptorProto, scope: string, types: ReadonlySet<string>): Record<string, FieldShape> {
  const shape = (field: FieldDescriptorProto): FieldShape => ({
    number: field.number,
    type: enumToJson(FieldDescriptorProto_TypeSchema, field.type),
    label: enumToJson(FieldDescriptorProto_LabelSchema, field.label),
    oneof: oneofOf(field, message),
    typeName: field.typeName === '' ? null : fullName(field.typeName, scope, types),
  });
  return Object.fromEntries(message.field.map((field) => [field.name, shape(field)]));
}

/** Index 0 is a oneof too, so an index that is not set must be told from it. */
function oneofOf(field: FieldDescriptorProto, message: DescriptorProto): string | null {
  if (!isFieldSet(field, FieldDescriptorProtoSchema.field.oneofIndex)) return null;
  return message.oneofDecl[field.oneofIndex]?.name ?? null;
}

function valuesOf(definition: EnumDescriptorProto): Record<string, number> {
  return Object.fromEntries(definition.value.map((value) => [value.name, value.number]));
}

function methodsOf(service: ServiceDescriptorProto): Record<string, MethodShape> {
  return Object.fromEntries(
    service.method.map(({ name, inputType, outputType, clientStreaming, serverStreaming }) => [
      name,
      { input: inputType, output: outputType, clientStreaming, serverStreaming },
    ]),
  );
}

/**
 * protoc writes `.full.name`; protobufjs, behind proto-loader, writes names that are relative to the message, which
 * are looked up from the inside out.
 */
function fullName(typeName: string, scope: string, types: ReadonlySet<string>): string {
  if (typeName.startsWith('.')) return typeName.slice(1);
  const parts = scope.split('.');
  const candidates = parts.map((_, index) => [...parts.slice(0, parts.length - index), typeName].join('.'));
  return candidates.find((candidate) => types.has(candidate)) ?? typeName;
}
