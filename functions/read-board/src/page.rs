//! The board's page: its files are part of the binary.

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderMap, HeaderValue, header},
    response::Response,
    routing::get,
};

use hot_products::{Window, schedule, snapshot::QUIET_AFTER};

use crate::{Board, answer};

/// The page may only load the files served here: no inline scripts or styles, and nothing from other hosts.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, content type and content of each file.
const FILES: [(&str, &str, &str); 11] = [
    ("/", HTML, include_str!("../page/index.html")),
    ("/board.css", STYLE, include_str!("../page/board.css")),
    ("/parts.css", STYLE, include_str!("../page/parts.css")),
    ("/board.js", SCRIPT, include_str!("../page/board.js")),
    ("/chart.js", SCRIPT, include_str!("../page/chart.js")),
    ("/dom.js", SCRIPT, include_str!("../page/dom.js")),
    ("/format.js", SCRIPT, include_str!("../page/format.js")),
    ("/pipeline.js", SCRIPT, include_str!("../page/pipeline.js")),
    ("/source.js", SCRIPT, include_str!("../page/source.js")),
    ("/table.js", SCRIPT, include_str!("../page/table.js")),
    ("/timeline.js", SCRIPT, include_str!("../page/timeline.js")),
];

/// The attributes of the page's body that the server fills in: the path of the pipeline's status, empty for none, the
/// schedule of the snapshots, and when a topic partition is shown as quiet, in seconds.
fn attributes(pipeline: Option<&str>) -> [(&'static str, String); 5] {
    [
        ("data-pipeline", escaped(pipeline.unwrap_or_default())),
        ("data-step", (Window::STEP_MINUTES * 60).to_string()),
        ("data-snapshot-delay", schedule::SNAPSHOT_DELAY.as_secs().to_string()),
        ("data-patience", schedule::PATIENCE.as_secs().to_string()),
        ("data-quiet-after", QUIET_AFTER.as_secs().to_string()),
    ]
}

/// The page with its attributes filled in.
fn filled(page: &str, pipeline: Option<&str>) -> String {
    attributes(pipeline).iter().fold(page.to_owned(), |page, (name, value)| {
        page.replacen(&format!(r#"{name}="""#), &format!(r#"{name}="{value}""#), 1)
    })
}

/// A route for each file.
pub(crate) fn routes(pipeline: Option<&str>) -> Router<Arc<Board>> {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, content)| {
        let content = if kind == HTML { Arc::from(filled(content, pipeline)) } else { Arc::<str>::from(content) };
        let serve = async move |headers: HeaderMap| serve(&headers, kind, &content);
        router.route(path, get(serve))
    })
}

fn serve(request: &HeaderMap, kind: &'static str, content: &str) -> Response {
    // Validated each time, so that the page and its scripts always have the same version.
    let mut response = answer::tagged(request, kind, "no-cache", content.as_bytes().to_vec());
    if kind == HTML {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    }
    response
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_place_for_each_attribute_and_nothing_that_its_policy_forbids() {
        let (_, _, page) = FILES[0];
        for (name, _) in attributes(None) {
            assert_eq!(page.matches(&format!(r#"{name}="""#)).count(), 1, "{name}");
        }
        for forbidden in ["<style", " style=", "onclick=", "http://", "https://", "<script>"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn the_page_has_the_schedule_of_the_snapshots() {
        let page = filled(FILES[0].2, Some("/status"));
        let attributes = r#"data-pipeline="/status" data-step="300" data-snapshot-delay="70" data-patience="60""#;
        assert!(page.contains(attributes), "{page}");
        assert!(page.contains(r#"data-quiet-after="300""#), "{page}");
    }
}
