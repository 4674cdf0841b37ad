//! The addresses, and what each answers.
//!
//! Owns the codes, which orchestrators act upon: /livez says whether this process should be restarted, and
//! never looks at other nodes; /readyz whether clients should be sent here.
//!
//! Bounds: connections are as many as the system allows: the address is for operators, not for everybody.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::routing::get;
use cairnlog_replication::status::Status;
use tokio::net::TcpListener;

use super::metrics;
use crate::output::talk;

const TEXT: &str = "text/plain; charset=utf-8";
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

/// Says how the node is; `None` when it has ended.
type Source = Arc<dyn Fn() -> Option<Status> + Send + Sync>;
type Answer = (StatusCode, [(HeaderName, &'static str); 1], String);

/// Answers until the process ends.
pub(crate) async fn serve(
    listener: TcpListener,
    source: impl Fn() -> Option<Status> + Send + Sync + 'static,
) {
    let source: Source = Arc::new(source);
    let router = Router::new()
        .route("/livez", get(async |State(source): State<Source>| livez(source().as_ref())))
        .route("/readyz", get(async |State(source): State<Source>| readyz(source().as_ref())))
        .route("/status", get(async |State(source): State<Source>| status(source().as_ref())))
        .route("/metrics", get(async |State(source): State<Source>| page(source().as_ref())))
        .with_state(source);
    if let Err(error) = axum::serve(listener, router).await {
        talk(format_args!("HTTP is not answered any more: {error}"));
    }
}

fn livez(status: Option<&Status>) -> Answer {
    match status {
        Some(status) if status.is_live => answer(StatusCode::OK, TEXT, "live\n".to_owned()),
        Some(_) => unavailable("the storage or a thread of this node failed"),
        None => ended(),
    }
}

fn readyz(status: Option<&Status>) -> Answer {
    let Some(status) = status else { return ended() };
    if status.is_ready {
        return answer(StatusCode::OK, TEXT, "ready\n".to_owned());
    }
    unavailable(status.not_ready_because.as_deref().unwrap_or("not ready"))
}

fn status(status: Option<&Status>) -> Answer {
    let Some(status) = status else { return ended() };
    answer(StatusCode::OK, JSON, format!("{}\n", status.to_json()))
}

fn page(status: Option<&Status>) -> Answer {
    let Some(status) = status else { return ended() };
    answer(StatusCode::OK, EXPOSITION, metrics::to_text(status))
}

fn ended() -> Answer {
    unavailable("this node has ended")
}

fn unavailable(reason: &str) -> Answer {
    answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n"))
}

fn answer(code: StatusCode, kind: &'static str, text: String) -> Answer {
    (code, [(CONTENT_TYPE, kind)], text)
}

#[cfg(test)]
mod tests {
    use super::super::metrics::tests::leader;
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    #[test]
    fn probes_have_codes() {
        let mut node = leader();
        assert_eq!(livez(Some(&node)).0, 200);
        assert_eq!(readyz(Some(&node)).0, 200);
        node.is_ready = false;
        node.not_ready_because = Some("no leader is heard".to_owned());
        assert_eq!(livez(Some(&node)).0, 200);
        let (code, _, text) = readyz(Some(&node));
        assert_eq!((code.as_u16(), &text[..]), (503, "no leader is heard\n"));
        node.is_live = false;
        assert_eq!(livez(Some(&node)).0, 503);
        for answer in [livez(None), readyz(None), status(None), page(None)] {
            assert_eq!(answer.0, 503);
        }
    }

    #[test]
    fn addresses_answer() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, || Some(leader())));
        let get = |path: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        assert!(get("/livez").starts_with("HTTP/1.1 200 "));
        assert!(get("/readyz").ends_with("\r\n\r\nready\n"));
        assert!(get("/metrics").contains("content-type: text/plain; version=0.0.4"));
        assert!(get("/metrics").contains("\ncairnlog_end_lsn 102\n"));
        assert!(get("/").starts_with("HTTP/1.1 404 "));
        let status = get("/status");
        assert!(status.contains("content-type: application/json"), "{status}");
        let json: serde_json::Value =
            serde_json::from_str(status.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(json["role"], "leader");
    }
}
