//! The command line, which main.rs describes.

use std::ffi::OsString;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// What the supervisor wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Arguments {
    /// Threads that run models at once, in each lane.
    pub threads: usize,
    /// Bytes of private memory, `None` for no limit.
    pub memory_limit: Option<u64>,
    /// How long the process stays without a request, `None` for ever.
    pub idle_timeout: Option<Duration>,
    /// Starts after a crash, for the statistics.
    pub restarts: u64,
    /// Usual places of the ONNX Runtime library.
    pub libraries: Vec<PathBuf>,
    /// The only place to look for it, when set.
    pub configured_library: Option<PathBuf>,
}

impl Arguments {
    /// Reads the arguments, without the name of the program.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Arguments, String> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let mut parsed = Arguments {
            threads,
            memory_limit: None,
            idle_timeout: None,
            restarts: 0,
            libraries: Vec::new(),
            configured_library: None,
        };
        while let Some(option) = arguments.next() {
            let name = option.to_string_lossy().into_owned();
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = || {
                let text = value.to_str().and_then(|text| text.parse::<u64>().ok());
                text.ok_or_else(|| format!("{name} needs a number, not {}", value.to_string_lossy()))
            };
            match name.as_str() {
                "--threads" => parsed.threads = number()?.clamp(1, 1024) as usize,
                "--memory-limit-mb" => parsed.memory_limit = Some(number()? << 20).filter(|limit| *limit > 0),
                "--idle-timeout-s" => {
                    parsed.idle_timeout = Some(Duration::from_secs(number()?)).filter(|time| !time.is_zero());
                }
                "--restarts" => parsed.restarts = number()?,
                "--library" => parsed.libraries.push(value.into()),
                "--configured-library" => parsed.configured_library = Some(value.into()),
                _ => return Err(format!("{name} is not an option")),
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(words.iter().map(OsString::from))
    }

    #[test]
    fn options_are_read_and_zero_means_none() {
        let line = ["--threads", "3", "--memory-limit-mb", "64", "--idle-timeout-s", "5", "--library", "a"];
        let parsed = parse(&[&line[..], &["--library", "b", "--restarts", "2"]].concat()).expect("right");
        assert_eq!((parsed.threads, parsed.restarts), (3, 2));
        assert_eq!(parsed.memory_limit, Some(64 << 20));
        assert_eq!(parsed.idle_timeout, Some(Duration::from_secs(5)));
        assert_eq!(parsed.libraries, [PathBuf::from("a"), PathBuf::from("b")]);
        let parsed = parse(&["--memory-limit-mb", "0", "--idle-timeout-s", "0"]).expect("right");
        assert_eq!((parsed.memory_limit, parsed.idle_timeout), (None, None));
    }

    #[test]
    fn wrong_arguments_are_refused() {
        for words in [&["--threads"][..], &["--threads", "many"], &["--listen", "0.0.0.0"]] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
