//! Reading input: path parameters and the query, or path parameters and a JSON body.

use axum::body::{Body, to_bytes};
use axum::extract::RawPathParams;
use domain::{ApiError, ErrorCode};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::time::Duration;

/// The largest body, in bytes.
pub(crate) const BODY_CAP: usize = 2 << 20;

/// A body that trickles in slower than this is given up, so that it holds no connection for ever.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

/// Path parameters of a route, by name.
pub(crate) type PathParams = Vec<(String, String)>;

pub(crate) fn path_params(params: &RawPathParams) -> PathParams {
    params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Input of a GET or DELETE.
///
/// # Errors
/// `InvalidInput` when a value is missing, given twice, or of another type.
pub(crate) fn from_query<T: DeserializeOwned>(path: PathParams, query: Option<&str>) -> Result<T, ApiError> {
    let mut pairs: PathParams = serde_urlencoded::from_str(query.unwrap_or_default()).map_err(unreadable)?;
    pairs.extend(path);
    // Through text once more, because its deserializer reads numbers and switches from strings.
    let joined = serde_urlencoded::to_string(pairs).map_err(unreadable)?;
    serde_urlencoded::from_str(&joined).map_err(unreadable)
}

/// Input of a POST or PUT: the body with the path parameters put in, which win over fields of the same name.
///
/// # Errors
/// `TooLarge`, and `InvalidInput` for a body that is not JSON or of another shape.
pub(crate) async fn from_body<T: DeserializeOwned>(path: PathParams, body: Body) -> Result<T, ApiError> {
    let bytes = tokio::time::timeout(BODY_PATIENCE, to_bytes(body, BODY_CAP)).await.map_err(|_| {
        ApiError::new(ErrorCode::InvalidInput, format!("The request did not arrive within {} seconds.", BODY_PATIENCE.as_secs()))
    })?;
    let bytes = bytes.map_err(|error| if is_too_long(&error) { too_large() } else { unreadable(error) })?;
    let mut value = if bytes.is_empty() { Value::Object(Map::new()) } else { serde_json::from_slice(&bytes).map_err(unreadable)? };
    if let Value::Object(fields) = &mut value {
        fields.extend(path.into_iter().map(|(name, text)| (name, Value::String(text))));
    }
    serde_json::from_value(value).map_err(unreadable)
}

pub(crate) fn too_large() -> ApiError {
    ApiError::new(ErrorCode::TooLarge, format!("This request is larger than {} MB.", BODY_CAP >> 20)).hint("Send less text at once.")
}

fn unreadable(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::InvalidInput, format!("This request cannot be read: {error}."))
}

fn is_too_long(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(one) = source {
        if one.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = one.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{AdapterActivation, ChartFormat, ChartQuery, MetricsQuery};

    fn path(name: &str, value: &str) -> PathParams {
        vec![(name.to_owned(), value.to_owned())]
    }

    #[test]
    fn path_and_query_fill_the_input() {
        let query: MetricsQuery = from_query(path("run_id", "run_1"), Some("after=12")).unwrap();
        assert_eq!((query.run_id.as_str(), query.after), ("run_1", Some(12)), "numbers are read from text");
        let query: ChartQuery = from_query(path("run_id", "a b&c=d"), Some("format=png")).unwrap();
        assert_eq!((query.run_id.as_str(), query.format), ("a b&c=d", ChartFormat::Png), "no character of a path leaks into the query");
    }

    #[test]
    fn a_query_cannot_replace_what_the_path_says() {
        let twice = from_query::<MetricsQuery>(path("run_id", "run_1"), Some("run_id=run_2")).unwrap_err();
        assert_eq!(twice.code, ErrorCode::InvalidInput, "{}", twice.message);
        let wrong = from_query::<MetricsQuery>(path("run_id", "run_1"), Some("after=soon")).unwrap_err();
        assert_eq!(wrong.code, ErrorCode::InvalidInput, "{}", wrong.message);
    }

    #[tokio::test]
    async fn path_parameters_win_over_the_body() {
        let body = Body::from(r#"{"adapter_id":"ad_other","strength":0.5}"#);
        let input: AdapterActivation = from_body(path("adapter_id", "ad_1"), body).await.unwrap();
        assert_eq!((input.adapter_id.as_str(), input.strength), ("ad_1", Some(0.5)));
        let input: AdapterActivation = from_body(path("adapter_id", "ad_1"), Body::empty()).await.unwrap();
        assert_eq!(input.strength, None, "no body is an empty object");
    }

    #[tokio::test]
    async fn a_body_past_the_cap_is_too_large_and_broken_json_is_invalid() {
        let large = from_body::<AdapterActivation>(Vec::new(), Body::from(vec![b' '; BODY_CAP + 1])).await.unwrap_err();
        assert_eq!(large.code, ErrorCode::TooLarge);
        let broken = from_body::<AdapterActivation>(path("adapter_id", "ad_1"), Body::from("{")).await.unwrap_err();
        assert_eq!(broken.code, ErrorCode::InvalidInput);
        let list = from_body::<AdapterActivation>(path("adapter_id", "ad_1"), Body::from("[1]")).await.unwrap_err();
        assert_eq!(list.code, ErrorCode::InvalidInput);
    }
}
