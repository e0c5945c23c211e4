//! Parses durations of the command line, shows them, and writes them as seconds in reports.

use std::time::Duration;

/// Parses a duration such as `500ms`, `10s`, `1.5s` or `2m`.
///
/// # Errors
/// A message with the accepted forms.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        _ => return Err(format!("`{text}` is not a duration; write 500ms, 10s or 2m")),
    };
    number
        .trim()
        .parse::<f64>()
        .ok()
        .and_then(|value| Duration::try_from_secs_f64(value * scale).ok())
        .filter(|duration| *duration <= Duration::from_secs(86_400))
        .ok_or_else(|| format!("`{text}` is not a duration of at most a day; write 500ms, 10s or 2m"))
}

/// A duration in seconds, or in minutes and seconds.
pub fn duration_text(duration: Duration) -> String {
    match duration.as_secs() {
        0..=99 => format!("{} s", duration.as_secs()),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

/// Serialises a duration as seconds.
pub mod seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// Writes a duration.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    /// Reads a duration.
    ///
    /// # Errors
    /// When it is not a number of seconds that fits.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed() {
        let read = |text| parse_duration(text).unwrap().as_millis();
        assert_eq!([read("500ms"), read("10s"), read("1.5s"), read("2m")], [500, 10_000, 1_500, 120_000]);
        for bad in ["", "10", "-1s", "s", "1h", "2d", "nan s", "infs", "99999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_shown_in_minutes_and_seconds() {
        assert_eq!(duration_text(Duration::from_secs(42)), "42 s");
        assert_eq!(duration_text(Duration::from_secs(185)), "3 min 05 s");
    }
}
