//! Progress on standard error. Nothing is drawn where standard error is not a terminal.

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar up to `length`, or a spinner where that is unknown, drawn as `template` says.
pub(crate) fn bar(length: Option<u64>, template: &str) -> Result<ProgressBar> {
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template(template)?);
    Ok(bar)
}
