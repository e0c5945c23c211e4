//! Converts protobuf messages to the JSON of Triton's HTTP endpoints.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use quintet_proto::inference::FILE_DESCRIPTOR_SET;

static POOL: LazyLock<Option<DescriptorPool>> = LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok());

/// The descriptor of a message of the protocol, such as `inference.ModelConfig`.
pub(crate) fn descriptor(message: &str) -> Option<MessageDescriptor> {
    POOL.as_ref()?.get_message_by_name(message)
}

/// Converts a message with the fields' proto names, 64-bit integers as numbers, and default values included.
///
/// # Errors
/// When `name` is not the message's full name.
pub(crate) fn to_json(name: &str, message: &impl Message) -> Result<serde_json::Value, String> {
    let descriptor = descriptor(name).ok_or_else(|| format!("the protocol has no message {name}"))?;
    let bytes = message.encode_to_vec();
    let message = DynamicMessage::decode(descriptor, bytes.as_slice()).map_err(|error| error.to_string())?;
    let options =
        SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false).skip_default_fields(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).map_err(|error| error.to_string())
}
