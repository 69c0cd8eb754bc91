//! The command line as a person meets it: what is printed, what is said, how it ends.

use crate::program::{command, finish, run, up};
use crate::resale;

#[test]
fn a_node_wants_a_host_and_a_port() {
    let dir = tempfile::tempdir().unwrap();
    for bad in ["nonsense", "host:", ":1", "host:0", "http://host:1", "host:99999"] {
        let said = run(dir.path(), &["node", "--gateway", bad]).failure();
        assert!(
            said.contains("is not where a market listens for nodes") && said.contains("hint"),
            "{bad}: {said}"
        );
    }
}

#[test]
fn a_command_without_a_market_says_how_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["chat", "hello"][..], &["models"]] {
        let said = run(dir.path(), args).failure();
        let want = format!(
            "error: no market runs in {}\n  hint: `bourse up` starts one; --data-dir DIR looks elsewhere\n",
            dir.path().display()
        );
        assert_eq!(said, want);
    }
}

#[test]
fn a_receipt_needs_an_id() {
    let dir = tempfile::tempdir().unwrap();
    let said = run(dir.path(), &["receipt", "../../etc/passwd"]).failure();
    assert!(said.starts_with("error: `../../etc/passwd` is not the id of a receipt\n  because: "), "{said}");
}

#[test]
fn completions_name_the_commands() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = run(dir.path(), &["completions", shell]).success();
        assert!(script.contains("ledger") && script.contains("verify"), "{shell}");
    }
}

#[test]
fn the_configuration_is_explained_with_origins() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bourse.toml"), "[exchange]\nfee_bps = 7\n").unwrap();
    let mut asked = command(dir.path(), &["config", "explain", "--json"]);
    asked.env("BOURSE_NODE_THREADS", "3");
    let lines = finish(asked).json();
    let check = |path: &str, value: &str, origin: &str| {
        let line = lines.as_array().unwrap().iter().find(|line| line["path"] == path).unwrap();
        assert_eq!(line["value"], value, "{path}");
        assert!(line["origin"].as_str().unwrap().ends_with(origin), "{line}");
        assert!(!line["doc"].as_str().unwrap().is_empty(), "{line}");
    };
    check("exchange.fee_bps", "7", "bourse.toml");
    check("node.threads", "3", "environment variable BOURSE_NODE_THREADS");
    check("gateway.listen", "\"127.0.0.1:8420\"", "default");
    check("data_dir", &format!("\"{}\"", dir.path().display()), "environment variable BOURSE_DATA_DIR");
    let text = run(dir.path(), &["config", "explain"]).success();
    assert!(text.contains("exchange.fee_bps = 7\n"), "{text}");
}

#[test]
fn a_wrong_configuration_stops_every_command_that_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bourse.toml"), "[node]\nthread = 1\n").unwrap();
    for args in [&["config", "explain"][..], &["up", "--no-node"]] {
        let said = run(dir.path(), args).failure();
        assert!(said.starts_with("error: unknown field: found `thread`"), "{said}");
        assert!(said.contains("hint: "), "{said}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_stdout_is_an_error_and_a_reader_that_left_is_none() {
    let bourse = || std::process::Command::new(env!("CARGO_BIN_EXE_bourse"));
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let refused = bourse().args(["completions", "bash"]).stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("stdout") && !said.contains("panicked"), "{said}");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert!(bourse().args(["completions", "bash"]).stdout(writer).status().unwrap().success());
}

/// Wherever the address of a database comes from, and whatever goes wrong with it.
#[test]
fn no_password_of_a_database_is_told() {
    let tell = |dir: &std::path::Path, args: &[&str], url: &str| {
        let mut asked = command(dir, args);
        asked.env("JOURNAL_URL", url).env("BOURSE_LOG", "trace");
        let ended = finish(asked);
        assert_ne!(ended.code, 0, "{args:?}");
        let told = ended.stdout + &ended.stderr;
        assert!(!told.contains("s3cret"), "{args:?}: {told}");
        told
    };
    for url in ["postgres://u:s3cret@localhost:1/b?sslmode=require", "postgres://u:s3cret@h@localhost:1/b"] {
        let dir = tempfile::tempdir().unwrap();
        for args in [&["migrate", "--to", url][..], &["migrate", "--to-env", "JOURNAL_URL"]] {
            let told = tell(dir.path(), args, url);
            assert!(
                told.contains("the database cannot be used") && told.contains("nothing was moved"),
                "{told}"
            );
        }
        std::fs::write(dir.path().join("exchange.journal"), url).unwrap();
        for args in
            [&["ledger", "balance"][..], &["ledger", "check"], &["ledger", "export"], &["up", "--json"]]
        {
            tell(dir.path(), args, url);
        }
    }
}

#[test]
fn an_export_of_transfers_refuses_a_table() {
    let (dir, seller) = (tempfile::tempdir().unwrap(), crate::seller::start());
    up(dir.path(), &resale(&seller.base_url), &["--no-node"], &[]).stop();
    for args in [&["--format", "csv"][..], &["--json"], &["--format", "beancount"]] {
        let args = [&["ledger", "export", "--table", "accounts"][..], args].concat();
        let refused = run(dir.path(), &args).failure();
        assert!(refused.contains("`--table` is for `--format parquet`"), "{refused}");
    }
    let out = dir.path().join("accounts.parquet");
    let args = ["ledger", "export", "--format", "parquet", "--table", "accounts", "--out"];
    run(dir.path(), &[&args[..], &[out.to_str().unwrap()]].concat()).success();
    assert!(std::fs::read(out).unwrap().starts_with(b"PAR1"));
}

#[test]
fn a_period_that_ends_before_it_begins_is_refused() {
    let (dir, seller) = (tempfile::tempdir().unwrap(), crate::seller::start());
    up(dir.path(), &resale(&seller.base_url), &["--no-node"], &[]).stop();
    for what in ["statement", "export", "invoice"] {
        let span = |from, until| run(dir.path(), &["ledger", what, "--from", from, "--until", until]);
        let refused = span("2026-12-01", "2026-11-30").failure();
        assert!(refused.contains("--until is before --from"), "{what}: {refused}");
        span("2026-12-01", "2026-12-01").success();
    }
}

#[test]
fn workspaces_and_their_limits_are_made_shown_and_lifted() {
    let (dir, seller) = (tempfile::tempdir().unwrap(), crate::seller::start());
    up(dir.path(), &resale(&seller.base_url), &["--no-node"], &[]).stop();
    let run = |args: &str| run(dir.path(), &args.split(' ').collect::<Vec<_>>());
    assert_eq!(run("workspace create team --account acme --name Team").success(), "team\n");
    let listed = run("workspace list --json").json();
    assert_eq!(
        (&listed["workspaces"][0]["slug"], &listed["workspaces"][0]["account"]),
        (&"team".into(), &"acme".into())
    );
    run("key create robot --account acme --workspace team").success();
    let keys = run("key list --json").json();
    let robot = keys["keys"].as_array().unwrap().iter().find(|key| key["workspace"] == "team").unwrap();
    assert_eq!((&robot["label"], &robot["in_flight_usd"]), (&"robot".into(), &"0.000000000".into()));
    let of_team = "--account acme --workspace team";
    run(&format!("limits {of_team} budget monthly 100")).success();
    run(&format!("limits {of_team} rate --requests 60 --tokens 90000")).success();
    run("limits --account acme budget daily 7.5").success();
    run("limits --key robot rate --requests 5").success();
    let shown = run(&format!("limits {of_team} show --json")).json()["limits"].clone();
    assert_eq!(
        (&shown["budgets"][0]["interval"], &shown["budgets"][0]["left_usd"]),
        (&"monthly".into(), &"100.000000000".into())
    );
    assert_eq!(shown["rates"][1]["limit_per_minute"], 90_000);
    let text = run(&format!("limits {of_team} show")).success();
    assert!(
        text.contains("monthly") && text.contains("requests a minute") && text.contains("90000"),
        "{text}"
    );
    run(&format!("limits {of_team} budget monthly none")).success();
    let lifted = run(&format!("limits {of_team} rate --requests 0 --json")).json()["limits"].clone();
    assert_eq!(
        (lifted["budgets"].as_array().unwrap().len(), lifted["rates"].as_array().unwrap().len()),
        (0, 1)
    );
    for (args, said) in [
        ("limits --key robot budget daily 5", "`budget` of a key is its limit: change the key"),
        ("limits --workspace nowhere show", "no workspace of this organisation has this id or slug"),
        ("workspace create Team", "`slug` needs 1 to 64 lower-case letters"),
        ("key create other --account acme --workspace nowhere", "no workspace of this organisation"),
        ("limits rate", "--tokens"),
        ("limits --key robot --workspace team show", "cannot be used with"),
    ] {
        let failed = run(args).failure();
        assert!(failed.contains(said), "{args}: {failed}");
    }
}

#[test]
fn sellers_get_addresses_and_are_paid_from_what_was_paid_in() {
    let (dir, seller) = (tempfile::tempdir().unwrap(), crate::seller::start());
    let paying = "[payouts]\nrail = \"fake\"\nminimum = \"0.00001\"\n";
    let market = up(dir.path(), &format!("{paying}{}", resale(&seller.base_url)), &["--no-node"], &[]);
    let run = |args: &str| run(dir.path(), &args.split(' ').collect::<Vec<_>>());
    run("chat hello").success();
    let owed = |line: &str| {
        let listed = run("payout list --json").json();
        listed["owed"][0][line].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!((owed("seller"), owed("withheld")), ("echo".into(), "it has no payout address".into()));
    assert!(run("payout address echo").success().contains("echo has no payout address and is paid nothing"));
    assert_eq!(run("payout address echo maple-1").success(), "echo takes money at maple-1\n");
    assert_eq!(run("payout address seller:echo").success(), "echo takes money at maple-1\n");
    let text = run("payout run").success();
    assert!(text.contains("not paid: $0 lies in escrow"), "{text}");
    run("ledger deposit subsidy 1").success();
    let paid = run("payout run --json").json()["payouts"][0].clone();
    assert_eq!(
        (&paid["state"], &paid["rail"], &paid["seller"]),
        (&"paid".into(), &"fake".into(), &"echo".into())
    );
    let id = paid["id"].as_str().unwrap();
    let csv = run("payout list --csv").success();
    assert!(csv.starts_with("payout,planned_at,") && csv.contains(id), "{csv}");
    assert!(!run("payout list --open").success().contains(id));
    let file = std::fs::read_to_string(dir.path().join("payouts.fake")).unwrap();
    assert_eq!(file.lines().count(), 1, "{file}");
    for (args, said) in [
        (format!("payout confirm {id} --reference x"), "ended before: paid, fake-"),
        (
            "payout fail pay-1 --reason x".to_owned(),
            "no payout is called `pay-1`; `bourse payout list` shows them",
        ),
        ("payout address nobody".to_owned(), "no seller is called `nobody`"),
        ("payout address echo closed".to_owned(), "the rail `fake` cannot pay to that address"),
        ("ledger deposit seller:echo 1".to_owned(), "`seller:echo` is not a customer account"),
    ] {
        let failed = run(&args).failure();
        assert!(failed.contains(said), "{args}: {failed}");
    }
    market.stop();
    // It may have been started with terms that stand in another file: nobody is paid under others.
    let said = run("payout run").failure();
    assert!(said.contains("payouts are made by a running market") && said.contains("`bourse up`"), "{said}");
    // The stopped books as well.
    assert_eq!(run("payout address echo --none --json").json()["address"], serde_json::Value::Null);
    let text = run("ledger check").success();
    assert!(text.contains("the books are clean") && text.contains("0 payouts on their way"), "{text}");
    std::fs::write(dir.path().join("bourse.toml"), "[payouts]\nrail = \"pigeon\"\nminimum = \"1\"\n")
        .unwrap();
    let said = run("payout list").failure();
    assert!(said.contains("`pigeon` is no payment rail; it can be manual or fake"), "{said}");
}
