//! The command line as it was given, or what is wrong with it.

use clap::{ColorChoice, CommandFactory as _, FromArgMatches as _};

use crate::args::Cli;
use crate::exit::Code;
use crate::talk;

/// The parsed command line, or the exit code after help, version or a usage error was printed.
pub(crate) fn parse() -> Result<Cli, Code> {
    let mut command = Cli::command();
    // Help and usage errors are printed before there is anything that knows the flag.
    if std::env::args_os().any(|argument| argument == "--no-color") {
        command = command.color(ColorChoice::Never);
    }
    let parsed = match command.try_get_matches_from_mut(std::env::args_os()) {
        Ok(matches) => Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command)),
        Err(error) => Err(error),
    };
    parsed.map_err(|error| {
        if !error.use_stderr() {
            // A closed pipe is nothing to complain about, and there is nobody left to hear of another failure.
            let _ = error.print();
            return Code::Ok;
        }
        let text = error.to_string();
        let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
        let shown = without_urls(&text, arguments);
        if shown == text {
            let _ = error.print();
        } else {
            talk::write(shown.as_bytes());
        }
        Code::Usage
    })
}

/// Bytes of a part of a URL that may hold something of a password; what is shorter would be found all over the text.
const SHORTEST: usize = 4;

/// A URL in the wrong place would be echoed with its password.
fn without_urls(text: &str, arguments: impl Iterator<Item = String>) -> String {
    let urls: Vec<_> = arguments
        .filter(|argument| argument.contains("://") || argument.contains('@'))
        .collect();
    // What follows a flag's = is told by itself, and so is each of several values.
    let mut parts: Vec<_> = urls
        .iter()
        .flat_map(|argument| {
            let value = argument.strip_prefix('-').and_then(|flag| flag.split_once('='));
            let value = value.map_or(argument.as_str(), |(_, value)| value);
            let is_url = |part: &&str| part.contains("://") || part.contains('@');
            let of_url = value.split(',').skip_while(move |part| !is_url(part));
            std::iter::once(value).chain(of_url)
        })
        .filter(|part| part.len() >= SHORTEST)
        .collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    parts
        .into_iter()
        .fold(text.to_owned(), |text, part| text.replace(part, "[withheld]"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn i8_a_url_in_the_wrong_place_is_withheld() {
        let url = "postgres://me:hunter2@db/ci";
        for arguments in [
            vec![url.to_owned()],
            vec!["vms".to_owned(), "--job".to_owned(), url.to_owned()],
            vec!["vms".to_owned(), format!("--job={url}")],
            vec![format!("--format={url}"), "jobs".to_owned()],
            vec!["jobs".to_owned(), "--state".to_owned(), format!("failed,{url}")],
            vec![
                "prune".to_owned(),
                "--id".to_owned(),
                "postgres://me:hunter2,more@db/ci".to_owned(),
            ],
        ] {
            let arguments = std::iter::once("persist".to_owned()).chain(arguments);
            let Err(error) = Cli::try_parse_from(arguments.clone()) else {
                panic!("it is no command")
            };
            assert!(error.to_string().contains("hunter2"), "or nothing is proven");
            let shown = without_urls(&error.to_string(), arguments);
            assert!(
                !shown.contains("hunter2") && shown.contains("[withheld]"),
                "{shown}"
            );
        }
    }
}
