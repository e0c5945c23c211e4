//! Tests of the text format, on Triton's own `ModelConfig`.

use proptest::prelude::*;
use prost_reflect::DescriptorPool;
use quintet_proto::inference::{
    FILE_DESCRIPTOR_SET, ModelConfig, model_config::SchedulingChoice, model_instance_group::Kind as InstanceKind,
};

use super::*;

fn descriptor() -> MessageDescriptor {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    pool.get_message_by_name("inference.ModelConfig").unwrap()
}

fn read(text: &str) -> ModelConfig {
    parse(text.as_bytes(), descriptor()).unwrap().0.transcode_to().unwrap()
}

fn refusal(text: &str) -> String {
    parse(text.as_bytes(), descriptor()).unwrap_err().to_string()
}

/// Minutes, if each field cost time for the text before it.
#[test]
fn reads_a_long_list() {
    let fields = "instance_group { count: 1 }\n".repeat(100_000);
    assert_eq!(read(&fields).instance_group.len(), 100_000);
}

#[test]
fn reads_every_form() {
    let config = read(
        r#"
        # a comment
        name: "a" 'b' "\x63\144\u0065\n\"" ; max_batch_size: 0x10,
        input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] }, < name: "y" data_type: 3 dims: 1 dims: 2 >, ]
        input: { name: "z", dims [ ] }
        output: [ { name: "o" } ]  # another
        instance_group { kind: KIND_GPU count: 02 gpus: [ 0, 1 ] passive: false }
        parameters { key: "k" value: { string_value: "v" } }
        parameters: [ { key: "l" value { string_value: "w" } } ]
        dynamic_batching: { max_queue_delay_microseconds: 18446744073709551615 preserve_ordering: t }
        "#,
    );
    assert_eq!((config.name.as_str(), config.max_batch_size), ("abcde\n\"", 16));
    let dims: Vec<_> = config.input.iter().map(|input| input.dims.clone()).collect();
    assert_eq!(dims, [vec![3, -1], vec![1, 2], vec![]]);
    assert_eq!(config.instance_group[0].kind(), InstanceKind::Gpu);
    assert_eq!((config.instance_group[0].count, &config.instance_group[0].gpus[..]), (2, &[0, 1][..]));
    assert_eq!((config.parameters["k"].string_value.as_str(), config.parameters.len()), ("v", 2));
    let Some(SchedulingChoice::DynamicBatching(dynamic)) = config.scheduling_choice else { panic!() };
    assert_eq!((dynamic.max_queue_delay_microseconds, dynamic.preserve_ordering), (u64::MAX, true));
}

#[test]
fn errors_name_position_field_and_remedy() {
    let errors: Vec<_> = [
        "max_batch_sise: 8",
        "\n  input [\n    { name: \"x\" datatype: TYPE_FP32 }\n  ]",
        "input { data_type: TYPE_FLOAT32 }",
        "input { data_type: TYPE_FP23 }",
        "input { dims: [ 3, x ] }",
        "max_batch_size: 3000000000",
        "max_batch_size: -",
        "dynamic_batching { priority_levels: -1 }",
        "name: \"x",
        "name: \"\\q\"",
        "name: x",
        "name \"x\"",
        "name: [ \"x\" ]",
        "max_batch_size: 8\nmax_batch_size: 8",
        "dynamic_batching { }\nsequence_batching { }",
        "input [ { name: \"x\" ",
        "input [ { name: \"x\" } { name: \"y\" } ]",
        "dynamic_batching { preserve_ordering: yes }",
        "version_policy: all",
        "}",
        "# äöü\nname: \"äöü\" {",
    ]
    .into_iter()
    .map(refusal)
    .collect();
    insta::assert_snapshot!(errors.join("\n"), @r#"
    1:1: unknown field 'max_batch_sise'; did you mean 'max_batch_size'?
    3:17: field 'input': unknown field 'datatype'; did you mean 'data_type'?
    1:20: field 'input.data_type': unknown value 'TYPE_FLOAT32': did you mean TYPE_FP32?
    1:20: field 'input.data_type': unknown value 'TYPE_FP23': did you mean TYPE_FP32?
    1:20: field 'input.dims': expected a whole number from -9223372036854775808 to 9223372036854775807, found 'x'
    1:17: field 'max_batch_size': expected a whole number from -2147483648 to 2147483647, found '3000000000'
    1:17: field 'max_batch_size': expected a whole number from -2147483648 to 2147483647, found the end of the file
    1:37: field 'dynamic_batching.priority_levels': expected a whole number from 0 to 18446744073709551615, found '-1'
    1:7: field 'name': this string has no closing "
    1:8: field 'name': '\q' is not a valid escape sequence
    1:7: field 'name': expected a string in quotes, found 'x'
    1:6: field 'name': expected ':', found the string "x"
    1:7: field 'name': takes one value, not a list
    2:1: field 'max_batch_size': is given twice
    2:1: field 'sequence_batching': excludes 'dynamic_batching', which is given too
    1:21: field 'input': expected '}', found the end of the file
    1:23: field 'input': expected ',' or ']', found '{'
    1:39: field 'dynamic_batching.preserve_ordering': expected true or false, found 'yes'
    1:17: field 'version_policy': expected '{', found 'all'
    1:1: expected a field's name, found '}'
    2:13: expected a field's name, found '{'
    "#);
}

#[test]
fn returns_the_positions_of_fields() {
    let (_, positions) = parse(b"name: \"m\"\ninput [ { name: \"x\" } ]\n  input { dims: 1 }", descriptor()).unwrap();
    assert_eq!(positions["input"], Position { line: 2, column: 1 });
    assert_eq!(positions["input.dims"], Position { line: 3, column: 11 });
}

#[test]
fn refuses_bytes_that_are_not_utf8_with_their_position() {
    let error = parse(b"name: \"m\"\n  \xff", descriptor()).unwrap_err();
    assert_eq!(error.to_string(), "2:3: the file is not UTF-8");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = parse(&bytes, descriptor());
    }

    /// Valid tokens in any order reach more of the parser than random bytes.
    #[test]
    fn arbitrary_pieces_never_panic(pieces in prop::collection::vec(prop::sample::select(vec![
        "name", "input", "dims", "parameters", "key", "value", "dynamic_batching", "data_type", "max_batch_size",
        "{", "}", "<", ">", "[", "]", ":", ",", ";", "-", "0", "0x", "09", "1e+", ".5", "\"x\"", "'", "\"\\", "\\x",
        "\\777", "\\u12", "TYPE_FP32", "true", "inf", "#", "\n", "ä",
    ]), 0..40), glue in prop::sample::select(vec!["", " "])) {
        let _ = parse(pieces.join(glue).as_bytes(), descriptor());
    }
}
