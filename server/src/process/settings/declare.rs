//! The declaration of settings.

/// Declares each setting once: the flag with its help, the variable, the file's key and the default. The first struct
/// has the flags as given, the second the settings in force; both may have other fields in front.
macro_rules! settings {
    (
        $flags:ident { $($flags_before:tt)* }
        $settings:ident { $($settings_before:tt)* }
        defaults { $($default:tt)* }
        $($(#[doc = $doc:literal])+ $(#[arg($($arg:tt)+)])? $name:ident: $type:ty = $value:expr, $env:literal;)+
    ) => {
        /// Settings as given; `None` is not given.
        #[derive(Clone, Debug, Default, clap::Args, serde::Serialize)]
        pub struct $flags {
            $($flags_before)*
            $($(#[doc = $doc])+
            #[arg(long, env = $env, $($($arg)+)?)]
            #[serde(skip_serializing_if = "Option::is_none")]
            pub $name: Option<$type>,)+
        }

        /// The settings in force.
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
