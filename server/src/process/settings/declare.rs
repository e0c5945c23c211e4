//! The macro that declares settings.

/// Declares each setting once: flag, help, environment variable, TOML key and default. The first struct holds the flags as
/// given, the second the effective settings. Both may have other fields first.
macro_rules! settings {
    (
        $flags:ident { $($flags_before:tt)* }
        $settings:ident { $($settings_before:tt)* }
        defaults { $($default:tt)* }
        $($(#[doc = $doc:literal])+ $(#[arg($($arg:tt)+)])? $name:ident: $type:ty = $value:expr, $env:literal;)+
    ) => {
        /// Settings as given; `None` if not given.
        #[derive(Clone, Debug, Default, clap::Args, serde::Serialize)]
        pub struct $flags {
            $($flags_before)*
            $($(#[doc = $doc])+
            #[arg(long, env = $env, $($($arg)+)?)]
            #[serde(skip_serializing_if = "Option::is_none")]
            pub $name: Option<$type>,)+
        }

        /// The effective settings.
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $settings {
            $($settings_before)*
            $($(#[doc = $doc])+
            pub $name: $type,)+
        }

        impl Default for $settings {
            fn default() -> Self {
                Self { $($default)* $($name: $value,)+ }
            }
        }
    };
}
