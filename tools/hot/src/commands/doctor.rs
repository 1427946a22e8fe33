//! `hot doctor`

use anyhow::{Result, bail};
use clap::Args;
use terminal::text::print;
use thiserror::Error;

use crate::{arguments::StackArgs, doctor, show};

const EXAMPLES: &str = "\
Examples:
  hot doctor
  hot doctor --stack hot-products-staging
  hot doctor --json | jq '.findings[] | select(.status != \"ok\")'";

/// Nothing is wrong, but not everything could be checked.
#[derive(Debug, Error)]
#[error("nothing is wrong, but {0} could not be checked")]
pub(crate) struct NotAllChecked(usize);

/// Check whether a deployed stack works, part by part, and say what to do
///
/// Asks AWS about the stack, its tables, functions, roles, event source, schedule and alarms, and about the cluster, the topic
/// and the network in which Lambda's poller runs. Compares them with the template of this version of hot and with the
/// stack's parameters. It only reads.
///
/// Each line is ok, wrong or unknown. Unknown means that it can't be checked: a permission is missing, a service does not
/// answer, or something else has to be repaired first. A line that is not ok has the next step, and the command that shows
/// the fault.
///
/// Exits with 0 if all lines are ok, with 1 if one is wrong or nothing could be asked, and with 3 if none is wrong but one is
/// unknown.
///
/// It runs the AWS CLI (`aws`), version 2 or a recent version 1, with the usual credentials: `AWS_PROFILE`, `AWS_REGION`
/// and the others apply. infra/policies/doctor.json has the permissions. It makes about 35 calls, and queries of the last fifteen
/// minutes of counters for about 60 read units.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
#[command(mut_arg("endpoint_url", |argument| {
    argument.help("The endpoint of all services, such as an emulator's; without it, AWS with the usual credentials")
}))]
#[command(mut_arg("stack", |argument| argument.help("The stack to check")))]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    stack: StackArgs,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &DoctorArgs) -> Result<()> {
    let StackArgs { endpoint_url, stack } = &args.stack;
    let facts = doctor::gather(&args.stack.client().await, endpoint_url.as_deref(), stack).await?;
    let report = doctor::diagnose(&facts);
    print(&if args.json { serde_json::to_string(&report)? } else { show::doctor::report(&report) })?;
    match (report.wrong, report.unknown) {
        (0, 0) => Ok(()),
        (0, unknown) => Err(NotAllChecked(unknown).into()),
        (wrong, _) => bail!("{wrong} wrong"),
    }
}
