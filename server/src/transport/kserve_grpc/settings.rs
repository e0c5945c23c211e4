//! `TraceSetting` and `LogSettings`: return the settings, and change those that the request names.

use quintet_engine::InferError;
use quintet_proto::inference::{
    LogSettingsRequest, LogSettingsResponse, TraceSettingRequest, TraceSettingResponse,
    log_settings_request::setting_value::ParameterChoice,
    log_settings_response::{SettingValue, setting_value},
    trace_setting_response,
};
use serde_json::{Map, Value};

use crate::{observe::logging, service::Service};

/// `TraceSetting`.
pub(super) fn trace(service: &Service, request: TraceSettingRequest) -> Result<TraceSettingResponse, InferError> {
    let model = (!request.model_name.is_empty()).then_some(request.model_name.as_str());
    let update = request.settings.into_iter().map(|(name, setting)| (name, setting.value)).collect();
    let settings = service.update_trace_settings(model, &update)?;
    let setting = |(name, value): (&str, _)| (name.to_owned(), trace_setting_response::SettingValue { value });
    Ok(TraceSettingResponse { settings: settings.into_iter().map(setting).collect() })
}

/// `LogSettings`.
pub(super) fn logging(request: LogSettingsRequest) -> Result<LogSettingsResponse, InferError> {
    let value = |choice| match choice {
        Some(ParameterChoice::BoolParam(value)) => Value::from(value),
        Some(ParameterChoice::Uint32Param(value)) => value.into(),
        Some(ParameterChoice::StringParam(value)) => value.into(),
        None => Value::Null,
    };
    let changes = request.settings.into_iter().map(|(name, setting)| (name, value(setting.parameter_choice)));
    logging::update(&changes.collect())?;
    Ok(LogSettingsResponse { settings: typed(logging::settings()) })
}

fn typed(settings: Map<String, Value>) -> std::collections::HashMap<String, SettingValue> {
    let choice = |value: Value| match value {
        Value::Bool(value) => setting_value::ParameterChoice::BoolParam(value),
        Value::String(value) => setting_value::ParameterChoice::StringParam(value),
        // The only number is a u32.
        value => setting_value::ParameterChoice::Uint32Param(value.as_u64().unwrap_or_default() as u32),
    };
    let setting = |value| SettingValue { parameter_choice: Some(choice(value)) };
    settings.into_iter().map(|(name, value)| (name, setting(value))).collect()
}
