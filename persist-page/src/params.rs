//! The part of an address behind the question mark.

use axum::http::StatusCode;
use persist::{Cursor, Error, Result, limits};
use url::form_urlencoded;

use crate::failure::{Answer, Failure};

/// Longest that is looked at: every filter at its limit fits.
const LONGEST: usize = 16 * 1024;

/// Parameters, each known. An empty one is as if it were not there: a form sends all of its fields.
#[derive(Debug)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// A name that is not known is an error: a mistyped filter would list everything, and look as if it listed some.
    pub(crate) fn parse(query: Option<&str>, known: &[&str]) -> Answer<Self> {
        let query = query.unwrap_or_default();
        if query.len() > LONGEST {
            let what = "the address is too long";
            return Err(Failure::new(StatusCode::URI_TOO_LONG, "invalid_input", what));
        }
        let mut pairs = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let short: String = name.chars().take(40).collect();
                let what = format!("{short}: no such parameter; known are {}", known.join(", "));
                return Err(Failure::new(StatusCode::BAD_REQUEST, "invalid_input", what));
            }
            if !value.trim().is_empty() {
                pairs.push((name.into_owned(), value.trim().to_owned()));
            }
        }
        Ok(Self(pairs))
    }

    /// The value of what may be given once.
    pub(crate) fn one(&self, name: &'static str) -> Result<Option<&str>> {
        let mut values = self.0.iter().filter(|(of, _)| of == name);
        let value = values.next().map(|(_, value)| value.as_str());
        match values.next() {
            Some(_) => Err(Error::invalid(name, "is given more than once")),
            None => Ok(value),
        }
    }

    /// The words of what may be given many times, or with commas.
    pub(crate) fn words(&self, name: &str) -> impl Iterator<Item = &str> {
        let values = self.0.iter().filter(move |(of, _)| of == name);
        values
            .flat_map(|(_, value)| value.split(','))
            .map(str::trim)
            .filter(|word| !word.is_empty())
    }

    pub(crate) fn text(&self, name: &'static str) -> Result<Option<String>> {
        Ok(self.one(name)?.map(str::to_owned))
    }

    pub(crate) fn after(&self) -> Result<Option<Cursor>> {
        Ok(self.one("after")?.map(Cursor::from_text))
    }

    pub(crate) fn limit(&self, usual: u32, most: u32) -> Result<u32> {
        let wrong = || Error::invalid("limit", format_args!("must be 1 to {most}"));
        let Some(text) = self.one("limit")? else {
            return Ok(usual.min(most));
        };
        let limit: u32 = text.parse().map_err(|_| wrong())?;
        if (1..=most.min(limits::LARGEST_PAGE)).contains(&limit) {
            Ok(limit)
        } else {
            Err(wrong())
        }
    }
}

/// An address with those of these parameters that have a value.
pub(crate) fn address<'v>(
    path: &str,
    parameters: impl IntoIterator<Item = (&'static str, &'v str)>,
) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if !value.is_empty() {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_are_absent_and_words_may_have_commas() {
        let params = Params::parse(
            Some("state=queued,running&state=lost&repo_url=&limit=7"),
            &["state", "repo_url", "limit"],
        );
        let params = params.unwrap();
        assert_eq!(
            params.words("state").collect::<Vec<_>>(),
            ["queued", "running", "lost"]
        );
        assert_eq!(params.one("repo_url").unwrap(), None);
        assert_eq!(params.limit(50, 200).unwrap(), 7);
        assert!(params.one("state").is_err());
        assert_eq!(
            Params::parse(Some("stat=queued"), &["state"]).unwrap_err().status,
            400
        );
        for wrong in ["0", "201", "-1", "many"] {
            let params = Params::parse(Some(&format!("limit={wrong}")), &["limit"]).unwrap();
            assert!(params.limit(50, 200).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_is_encoded() {
        let told = address("/", [("repo_url", "https://x/?a=b&c=<d>"), ("after", "")]);
        assert_eq!(told, "/?repo_url=https%3A%2F%2Fx%2F%3Fa%3Db%26c%3D%3Cd%3E");
        assert_eq!(address("/vms", []), "/vms");
    }
}
