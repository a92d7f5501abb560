//! `/openapi.json`, from the same list that the router is built from.
//!
//! It names paths, methods, parameters and statuses. Bodies are declared as objects with the name of their type; the
//! types themselves are in `ui/src/api/bindings.ts`, generated from the same declarations.

use crate::refusal::json;
use crate::router::{RouteInfo, routes};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json as object};

pub(crate) async fn document() -> Response {
    json(StatusCode::OK, &describe(&routes()))
}

fn describe(routes: &[RouteInfo]) -> Value {
    let mut paths = Map::new();
    for route in routes {
        let path = paths.entry(route.path).or_insert_with(|| Value::Object(Map::new()));
        path[route.method.to_lowercase()] = operation(route);
    }
    object!({
        "openapi": "3.1.0",
        "info": {
            "title": "Inkling",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Everything that the window and the command line can do. Bodies are JSON; every error is an ApiError.",
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": { "ApiError": api_error() },
        },
    })
}

fn operation(route: &RouteInfo) -> Value {
    let names = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameters: Vec<_> =
        names.map(|name| object!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })).collect();
    let failure = object!({
        "description": "What went wrong, and what to do.",
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/ApiError" } } },
    });
    let mut operation = object!({
        "summary": route.summary,
        "parameters": parameters,
        "responses": { route.status.to_string(): { "description": route.output }, "default": failure },
    });
    if matches!(route.method, "POST" | "PUT") {
        operation["requestBody"] = object!({ "content": { "application/json": { "schema": { "type": "object", "title": route.input } } } });
    }
    if !route.token {
        operation["security"] = object!([]);
    }
    operation
}

fn api_error() -> Value {
    object!({
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": { "type": "string" },
            "message": { "type": "string" },
            "hint": { "type": ["string", "null"] },
            "detail": {
                "type": "array",
                "items": { "type": "object", "properties": { "field": { "type": "string" }, "message": { "type": "string" } } },
            },
        },
    })
}
