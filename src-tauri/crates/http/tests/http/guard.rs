//! The security table of TRUST.md, walked over the route table itself: a route that is added without protection fails here.

use crate::house::{HOST, House};
use ::http::{RouteInfo, routes};
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use domain::ErrorCode;

/// The path with something in place of its parameters.
fn concrete(route: &RouteInfo) -> String {
    route.path.split('/').map(|part| if part.starts_with('{') { "some_id" } else { part }).collect::<Vec<_>>().join("/")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_refuses_strangers() {
    let house = House::open();
    let protected: Vec<_> = routes().into_iter().filter(|route| route.token).collect();
    let open: Vec<_> = routes().into_iter().filter(|route| !route.token).map(|route| route.path).collect();
    assert_eq!(open, ["/healthz"], "nothing else is open to those without the token");
    let mut refused = 0;
    for route in &protected {
        let path = concrete(route);
        let ours = format!("Bearer {}", house.token.as_str());
        let almost = format!("Bearer {}0", &house.token.as_str()[..63]);
        let wrong = if almost == ours { format!("Bearer {}1", &house.token.as_str()[..63]) } else { almost };
        let attempts: &[(&str, ErrorCode, &[(&str, &str)])] = &[
            ("no token", ErrorCode::Unauthorized, &[("host", HOST)]),
            ("a wrong token", ErrorCode::Unauthorized, &[("host", HOST), ("authorization", &wrong)]),
            ("the token as another scheme", ErrorCode::Unauthorized, &[("host", HOST), ("authorization", house.token.as_str())]),
            ("a rebound host", ErrorCode::Forbidden, &[("host", "evil.test:9009"), ("authorization", &ours)]),
            ("a host on another port", ErrorCode::Forbidden, &[("host", "127.0.0.1:80"), ("authorization", &ours)]),
            ("no host", ErrorCode::Forbidden, &[("authorization", &ours)]),
            ("two hosts", ErrorCode::Forbidden, &[("host", HOST), ("host", "evil.test"), ("authorization", &ours)]),
            ("a foreign origin", ErrorCode::Forbidden, &[("host", HOST), ("authorization", &ours), ("origin", "https://evil.test")]),
            ("a hidden origin", ErrorCode::Forbidden, &[("host", HOST), ("authorization", &ours), ("origin", "null")]),
            (
                "our host over another scheme",
                ErrorCode::Forbidden,
                &[("host", HOST), ("authorization", &ours), ("origin", "https://127.0.0.1:9009")],
            ),
            ("a text body", ErrorCode::UnsupportedMediaType, &[("host", HOST), ("authorization", &ours), ("content-type", "text/plain")]),
            (
                "a form",
                ErrorCode::UnsupportedMediaType,
                &[("host", HOST), ("authorization", &ours), ("content-type", "application/x-www-form-urlencoded")],
            ),
            ("a body of no type", ErrorCode::UnsupportedMediaType, &[("host", HOST), ("authorization", &ours), ("content-length", "2")]),
        ];
        for (what, code, headers) in attempts {
            let mut request = Request::builder().method(route.method).uri(&path);
            for (name, value) in *headers {
                request = request.header(*name, *value);
            }
            let answer = house.send(request.body(Body::from("{}")).expect("a request")).await;
            assert_eq!(answer.error().code, *code, "{} {} with {what}", route.method, route.path);
            refused += 1;
        }
    }
    println!("{refused} hostile requests refused on {} routes", protected.len());
    assert!(protected.len() > 45, "the whole table was walked: {}", protected.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_its_owner_and_only_with_json_or_its_own_type() {
    let house = House::open();
    for route in routes().iter().filter(|route| route.method == "GET" && !route.path.contains('{') && route.path != "/api/v1/events") {
        let answer = house.get(route.path).await;
        assert!(answer.status.is_success(), "{}: {}", route.path, String::from_utf8_lossy(&answer.bytes));
        assert_eq!(answer.headers[header::CONTENT_TYPE], "application/json", "{}", route.path);
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store", "{}: nothing of it may stay in a cache", route.path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_tell_a_browser_to_trust_nothing_else() {
    let house = House::open();
    let page = house.send(Request::builder().uri("/").header("host", HOST).body(Body::empty()).expect("a request")).await;
    for answer in [page, house.get("/api/v1/status").await, house.get("/api/v1/nothing").await] {
        let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(policy.contains("connect-src 'self'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(answer.headers[header::REFERRER_POLICY], "no-referrer");
        assert_eq!(answer.headers["cross-origin-resource-policy"], "same-origin");
        assert!(!answer.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN), "no other site is let in");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_need_no_token_but_our_host() {
    let house = House::open();
    let get = |path: &str, host: &str| Request::builder().uri(path).header("host", host).header("accept", "text/html").body(Body::empty());
    for path in ["/", "/teach/history"] {
        let answer = house.send(get(path, HOST).expect("a request")).await;
        assert_eq!(answer.headers[header::CONTENT_TYPE], "text/html; charset=utf-8", "{path} is a page, built or not");
        let answer = house.send(get(path, "evil.test").expect("a request")).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} on another host");
    }
    let health = house.send(get("/healthz", HOST).expect("a request")).await;
    assert_eq!(health.status, StatusCode::OK);
    let hidden = house.send(get("/api/v1/unknown", HOST).expect("a request")).await;
    assert_eq!(hidden.error().code, ErrorCode::Unauthorized, "an API path is no page");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absolute_target_must_be_ours_too() {
    let house = House::open();
    let request = house.request("GET", "http://evil.test/api/v1/status").body(Body::empty()).expect("a request");
    assert_eq!(house.send(request).await.error().code, ErrorCode::Forbidden);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_others_can_reach_need_a_flag() {
    let house = House::open();
    let options = ::http::ServeOptions { host: "0.0.0.0".into(), port: 0, allow_network: false };
    let Err(refused) = ::http::serve(house.app.clone(), options.clone()).await else { panic!("it must be refused") };
    assert_eq!((refused.code, refused.detail[0].field.as_str()), (ErrorCode::InvalidInput, "host"));
    let bound = ::http::serve(house.app.clone(), ::http::ServeOptions { allow_network: true, ..options }).await.expect("allowed now");
    assert!(bound.warning.as_deref().is_some_and(|warning| warning.contains("not encrypted")), "and warned about");
    bound.stop().await;
    let named = ::http::ServeOptions { host: "example.test".into(), port: 0, allow_network: true };
    assert!(::http::serve(house.app.clone(), named).await.is_err(), "a name is no address of this machine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_said_plainly() {
    let house = House::open();
    let options = |port| ::http::ServeOptions { port, ..Default::default() };
    let first = ::http::serve(house.app.clone(), options(0)).await.expect("a free port");
    let Err(second) = ::http::serve(house.app.clone(), options(first.address.port())).await else { panic!("the port is taken") };
    assert_eq!(second.code, ErrorCode::Conflict);
    assert!(second.hint.is_some_and(|hint| hint.contains("--port")));
    first.stop().await;
}
