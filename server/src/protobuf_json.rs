//! Protobuf messages in the JSON that Triton's HTTP endpoints print.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use quintet_proto::inference::FILE_DESCRIPTOR_SET;

static POOL: LazyLock<Option<DescriptorPool>> = LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok());

/// The descriptor of one of the protocol's messages, such as `inference.ModelConfig`.
pub(crate) fn descriptor(message: &str) -> Option<MessageDescriptor> {
    POOL.as_ref()?.get_message_by_name(message)
}

/// Protobuf's JSON with the fields' own names, numbers as numbers and defaults spelt out.
///
/// # Errors
/// When `name` is not the message's name.
pub(crate) fn to_json(name: &str, message: &impl Message) -> Result<serde_json::Value, String> {
    let descriptor = descriptor(name).ok_or_else(|| format!("the protocol has no message {name}"))?;
    let bytes = message.encode_to_vec();
    let message = DynamicMessage::decode(descriptor, bytes.as_slice()).map_err(|error| error.to_string())?;
    let options =
        SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false).skip_default_fields(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).map_err(|error| error.to_string())
}
