//! The board's page: files in the binary.

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderMap, HeaderValue, header},
    response::Response,
    routing::get,
};

use crate::{Board, answer};

/// The page loads what is served beside it, and nothing else: no script or style within the page, nothing from elsewhere.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, type and content of each file.
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

/// Where the page reads the path of the pipeline's health; empty for none.
const PIPELINE: &str = r#"data-pipeline="""#;

/// A route for each file.
pub(crate) fn routes(pipeline: Option<&str>) -> Router<Arc<Board>> {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, content)| {
        let content = match pipeline {
            Some(pipeline) if kind == HTML => {
                Arc::from(content.replacen(PIPELINE, &format!(r#"data-pipeline="{}""#, escaped(pipeline)), 1))
            }
            _ => Arc::<str>::from(content),
        };
        let serve = async move |headers: HeaderMap| serve(&headers, kind, &content);
        router.route(path, get(serve))
    })
}

fn serve(request: &HeaderMap, kind: &'static str, content: &str) -> Response {
    // Asked for again each time, so that a page and its script are always of one version.
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
    fn the_page_has_one_place_for_the_pipeline_and_nothing_that_its_policy_forbids() {
        let (_, _, page) = FILES[0];
        assert_eq!(page.matches(PIPELINE).count(), 1);
        for forbidden in ["<style", " style=", "onclick=", "http://", "https://", "<script>"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
    }
}
