//! `bourse workspace`: named parts of an organisation, to which keys can belong. Works on a running market and on a
//! stopped one.

use super::operator::{Operator, unasked};
use crate::config::Environment;
use crate::report::Failure;
use bourse_exchange::{AdminReply, AdminRequest, NewWorkspace, WorkspaceInfo};
use clap::Subcommand;
use std::process::ExitCode;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    operator: Operator,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a workspace.
    Create {
        /// Its short name: lower-case letters and digits, with single dashes between them.
        slug: String,
        /// What to call it [default: its short name].
        #[arg(long)]
        name: Option<String>,
        /// The account that it is a part of [default: operator].
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
    },
    /// List all workspaces.
    List,
}

/// Asks and prints.
pub fn run(args: &Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let request = match &args.action {
        Action::Create { slug, name, account } => AdminRequest::CreateWorkspace(NewWorkspace {
            slug: slug.clone(),
            name: name.clone(),
            account: account.clone(),
        }),
        Action::List => AdminRequest::ListWorkspaces {},
    };
    args.operator.ask(environment, request, tell)
}

fn tell(reply: AdminReply) -> Result<(), Failure> {
    match reply {
        AdminReply::Workspace { workspace } => {
            super::tell_line(&workspace.slug)?;
            eprintln!(
                "hint: `bourse key create --workspace {}` makes a key that belongs to it",
                workspace.slug
            );
        }
        AdminReply::Workspaces { workspaces } => super::tell(&table(&workspaces))?,
        _ => return Err(unasked()),
    }
    Ok(())
}

fn table(workspaces: &[WorkspaceInfo]) -> String {
    let mut rows = vec![["SLUG", "NAME", "ACCOUNT", "MADE", "ID"].map(str::to_owned)];
    rows.extend(workspaces.iter().map(|one| {
        let WorkspaceInfo { id, slug, name, account, created_ms } = one.clone();
        [slug, name, account, super::utc(created_ms), id]
    }));
    super::columns(&rows)
}
