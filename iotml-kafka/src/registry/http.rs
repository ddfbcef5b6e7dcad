//! One request to a registry, and what its answer means.

use iotml_core::error::{BoxError, SchemaRegistryError};
use reqwest::{Client, Method, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::SchemaRegistryConfig;

/// Speaks to a registry.
#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    base: Url,
    config: SchemaRegistryConfig,
}

/// Why a request brought nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// No answer, or one that asks to come again.
    #[error("{message}")]
    Unavailable {
        message: String,
        #[source]
        source: Option<BoxError>,
    },
    /// The registry answered that there is no such thing.
    #[error("{message}")]
    Missing { message: String },
    /// The answer is longer than the limit.
    #[error("{message}")]
    TooLong { message: String },
    /// The registry answered no.
    #[error("{message}")]
    Refused {
        message: String,
        #[source]
        source: Option<BoxError>,
    },
}

impl From<HttpError> for SchemaRegistryError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Missing { message } | HttpError::TooLong { message } => {
                SchemaRegistryError::Refused { message, source: None }
            }
            HttpError::Refused { message, source } => SchemaRegistryError::Refused { message, source },
            HttpError::Unavailable { .. } => SchemaRegistryError::Unavailable { source: error.into() },
        }
    }
}

/// The body of an error in the Confluent API.
#[derive(Debug, Deserialize)]
struct Problem {
    error_code: Option<i64>,
    message: Option<String>,
}

/// The longest text of a registry that is shown.
const SHOWN: usize = 300;

impl Http {
    pub fn new(client: Client, base: Url, config: SchemaRegistryConfig) -> Self {
        Self { client, base, config }
    }

    /// Sends `body` to `path` below the base address and reads the answer.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&serde_json::Value>,
    ) -> Result<T, HttpError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // An empty last piece stands for the slash at the end.
            segments.pop_if_empty().extend(path);
        }
        let mut request = self.client.request(method, url).header("accept", "application/vnd.schemaregistry.v1+json");
        if let Some(username) = &self.config.username {
            request = request.basic_auth(username, self.config.password.as_ref().map(|password| password.expose()));
        }
        if let Some(token) = &self.config.token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/vnd.schemaregistry.v1+json").body(body.to_string());
        }
        let place = self.place(path);
        let unanswered = |error: reqwest::Error| HttpError::Unavailable {
            message: format!("no answer from {place}"),
            source: Some(error.without_url().into()),
        };
        let mut answer = request.send().await.map_err(unanswered)?;
        let status = answer.status();
        let limit = self.config.max_answer_bytes.0;
        let mut text = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unanswered)? {
            if text.len() + chunk.len() > limit {
                let message = format!("{place} answered with more than {limit} bytes, the limit `max_answer_bytes`");
                return Err(HttpError::TooLong { message });
            }
            text.extend_from_slice(&chunk);
        }
        let text = String::from_utf8_lossy(&text);
        if status.is_success() {
            return serde_json::from_str(&text).map_err(|error| HttpError::Refused {
                message: format!("{place} does not answer as a schema registry; check the path of its url"),
                source: Some(error.into()),
            });
        }
        Err(problem(&place, status, &text))
    }

    fn place(&self, path: &[&str]) -> String {
        format!("{}/{}", self.base.as_str().trim_end_matches('/'), path.join("/"))
    }
}

fn problem(place: &str, status: StatusCode, text: &str) -> HttpError {
    let problem: Option<Problem> = serde_json::from_str(text).ok();
    // The registry's own codes have five digits: 40401 to 40403 for a subject, version or schema that is not there.
    let is_registry = problem.as_ref().and_then(|problem| problem.error_code).is_some_and(|code| code / 100 == 404);
    let said = problem.and_then(|problem| problem.message).unwrap_or_default();
    let said: String = said.chars().take(SHOWN).collect();
    let message = format!("{place} answered {status}: {said}");
    match status {
        // Without the registry's own code it may be any web server that knows no such path.
        StatusCode::NOT_FOUND if is_registry => HttpError::Missing { message },
        StatusCode::NOT_FOUND => HttpError::Refused {
            message: format!("{place} is not there ({status}); check the path of the registry's url"),
            source: None,
        },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => HttpError::Refused {
            message: format!("{message}; check username and password, or token, of the registry"),
            source: None,
        },
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => HttpError::Unavailable { message, source: None },
        status if status.is_server_error() => HttpError::Unavailable { message, source: None },
        _ => HttpError::Refused { message, source: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_registry_itself_can_say_that_a_schema_is_unknown() {
        let verdict = |status: u16, text: &str| problem("http://h/x", StatusCode::from_u16(status).unwrap(), text);
        let unknown = r#"{"error_code": 40403, "message": "Schema not found"}"#;
        assert!(matches!(verdict(404, unknown), HttpError::Missing { .. }));
        assert!(matches!(verdict(404, "<html>nothing here</html>"), HttpError::Refused { .. }));
        // Apicurio, asked by a wrong path.
        for wrong_path in [r#"{"error_code": 404, "message": "no resource"}"#, r#"{"error_code": 0}"#] {
            assert!(matches!(verdict(404, wrong_path), HttpError::Refused { .. }), "{wrong_path}");
        }
        assert!(matches!(verdict(401, ""), HttpError::Refused { .. }));
        assert!(matches!(verdict(503, ""), HttpError::Unavailable { .. }));
        assert!(matches!(verdict(409, unknown), HttpError::Refused { .. }));
    }
}
