//! A call of the table as a route.

use crate::body::{from_body, from_query, path_params};
use crate::refusal::{Refusal, json};
use crate::surface::Surface;
use crate::writing;
use app::calls::{self, Call, call};
use axum::Router;
use axum::extract::{RawPathParams, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use domain::ApiError;
use std::sync::Arc;

/// Adds every call of the table to the router.
pub(crate) fn add_all(router: Router<Arc<Surface>>) -> Router<Arc<Surface>> {
    macro_rules! add_each {
        ($($name:ident $method_name:ident $method:ident $path:literal $input:ty => $output:ty, $status:literal;)*) => {
            router$(.route(call::$name::PATH, route::<call::$name>()))*
        };
    }
    app::for_each_call!(add_each)
}

fn route<C: Call>() -> axum::routing::MethodRouter<Arc<Surface>> {
    // Writing has slots of its own and stops when its client hangs up.
    if C::NAME == call::Write::NAME { on(filter(C::METHOD), writing::write) } else { on(filter(C::METHOD), answer::<C>) }
}

fn filter(method: calls::Method) -> MethodFilter {
    match method {
        calls::Method::Get => MethodFilter::GET,
        calls::Method::Post => MethodFilter::POST,
        calls::Method::Put => MethodFilter::PUT,
        calls::Method::Delete => MethodFilter::DELETE,
    }
}

async fn answer<C: Call>(
    State(surface): State<Arc<Surface>>,
    path: RawPathParams,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Refusal> {
    let path = path_params(&path);
    let input: C::Input = match C::METHOD {
        calls::Method::Get | calls::Method::Delete => from_query(path, query.as_deref())?,
        calls::Method::Post | calls::Method::Put => from_body(path, request.into_body()).await?,
    };
    let output = surface.call(move |app| C::run(app, input)).await?;
    let status = StatusCode::from_u16(C::STATUS).map_err(ApiError::internal)?;
    Ok(json(status, &output))
}
