//! What is asked off the hot path comes back as it went, at every bound and not one past it.

use super::*;
use crate::funds::accounts::RULES;
use crate::funds::{
    ACTIVITY_DAYS, ACTIVITY_ROWS_PER_DAY_MAX, AccountsError, ActivityQuery, ActivityRow, ActivitySums,
    BudgetStatus, Change, FIGURES_BYTES_MAX, Generation, KEY_NAME_BYTES_MAX, KEYS_PAGE_MAX, KeyDraft,
    KeyPage, KeyPatch, KeyRecord, KeySecret, KeyStatus, LimitReset, LimitsPatch, POLICY_BYTES_MAX,
    PolicyText, RateStatus, RateUnit, SEALED_BYTES_MAX, Scope, ScopeName, ScopeRecord, SpendWindows,
    WORKSPACES_PAGE_MAX, WorkspaceDraft, WorkspaceId, WorkspaceRecord,
};
use crate::receipt::{Checkpoint, ReceiptDocument};
use bourse_types::UtcDay;

/// A policy of so many bytes.
fn policy(bytes: usize) -> PolicyText {
    PolicyText::parse(&format!("{{{}}}", " ".repeat(bytes - 2))).unwrap()
}

fn draft(n: u8) -> KeyDraft {
    let is_odd = !n.is_multiple_of(2);
    KeyDraft {
        name: "k".repeat(KEY_NAME_BYTES_MAX),
        limit: is_odd.then_some(NanoUsd(u64::from(n))),
        limit_reset: LimitReset::ALL[usize::from(n) % 4],
        includes_byok_in_limit: is_odd,
        expires: is_odd.then_some(UnixMs(u64::from(n))),
        policy: is_odd.then(|| policy(POLICY_BYTES_MAX)),
        claim: is_odd.then_some(claim(n)),
        workspace: is_odd.then(|| "team".to_owned()),
    }
}

fn claim(n: u8) -> Claim {
    let digest = Digest32([n; 32]);
    Claim { name: digest, fingerprint: digest, first: RequestId(n.into()), kept_for: DurationMs(n.into()) }
}

fn patch(n: u8) -> KeyPatch {
    let KeyDraft { name, limit, limit_reset, includes_byok_in_limit, expires, policy, .. } = draft(n);
    if n < 4 {
        return KeyPatch::default();
    }
    KeyPatch {
        name: Change::Set(name),
        disabled: Change::Set(n.is_multiple_of(3)),
        limit: Change::Set(limit),
        limit_reset: Change::Set(limit_reset),
        includes_byok_in_limit: Change::Set(includes_byok_in_limit),
        expires: Change::Set(expires),
        policy: Change::Set(policy),
    }
}

fn record(n: u8) -> KeyRecord {
    let draft = draft(n);
    let at = |n: u8| SpendWindows {
        total: NanoUsd(u64::MAX),
        daily: NanoUsd(u64::from(n)),
        weekly: NanoUsd(2),
        monthly: NanoUsd(3),
    };
    KeyRecord {
        hash: KeyHash([n; 32]),
        name: draft.name,
        role: grant(n).role,
        is_disabled: n.is_multiple_of(3),
        limit: draft.limit,
        limit_reset: draft.limit_reset,
        limit_remaining: draft.limit,
        includes_byok_in_limit: draft.includes_byok_in_limit,
        expires: draft.expires,
        usage: at(n),
        byok_usage: at(n ^ 1),
        creator: draft.limit.map(|_| KeyHash([n ^ 2; 32])),
        created: UnixMs(4),
        updated: UnixMs(5),
        last_used: draft.expires,
        policy: draft.policy.map(|policy| policy.id()),
        workspace: draft.workspace.map(|_| WorkspaceId(n.into())),
        held: NanoUsd(6),
    }
}

fn checkpoint(n: u8) -> Checkpoint {
    let digest = Digest32([n; 32]);
    Checkpoint { size: 9, root: digest, time: UnixMs(7), exchange: digest, signature: [n; 64] }
}

fn document(n: u8) -> ReceiptDocument {
    ReceiptDocument {
        receipt: largest().receipt,
        exchange_signature: [n; 64],
        leaf_index: u64::from(n),
        inclusion: vec![Digest32([n; 32]); usize::from(n) % 65],
        checkpoint: checkpoint(n),
    }
}

fn row(n: u8) -> ActivityRow {
    let count = u64::from(n);
    ActivityRow {
        day: UtcDay(u32::from(n)),
        model: ModelSlug::parse(&format!("a/{}", "m".repeat(NAME_BYTES_MAX - 2))).unwrap(),
        seller: SellerName::parse(&"s".repeat(NAME_BYTES_MAX)).unwrap(),
        sums: ActivitySums {
            requests: count,
            prompt_tokens: 1,
            completion_tokens: 2,
            reasoning_tokens: 3,
            cost: NanoUsd(4),
            byok_cost: NanoUsd(u64::MAX),
        },
    }
}

fn workspace(n: u8, text: &str) -> WorkspaceRecord {
    let (slug, name) = (text.to_owned(), text.to_owned());
    WorkspaceRecord { id: WorkspaceId(n.into()), slug, name, created: UnixMs(1), updated: UnixMs(2) }
}

fn scope(n: u8, text: &str) -> ScopeName {
    match n % 3 {
        0 => ScopeName::Key(KeyHash([n; 32])),
        1 => ScopeName::Workspace(text.to_owned()),
        _ => ScopeName::Organisation,
    }
}

fn limits(n: u8, a: u64) -> LimitsPatch {
    let is_odd = !n.is_multiple_of(2);
    if n > 99 {
        let reset = LimitReset::ALL[usize::from(n) % 4];
        let includes_byok = if n > 199 { Change::Keep } else { Change::Set(is_odd) };
        return LimitsPatch::Budget { reset, limit: is_odd.then_some(NanoUsd(a)), includes_byok };
    }
    let tokens = if n > 49 { Change::Keep } else { Change::Set(None) };
    LimitsPatch::Rates { requests: Change::Set(is_odd.then_some(a)), tokens }
}

fn limits_of(n: u8, a: u64, text: &str) -> ScopeRecord {
    let budget = BudgetStatus {
        scope: Scope::Organisation,
        reset: LimitReset::Never,
        limit: NanoUsd(a),
        includes_byok: n > 9,
        spent: NanoUsd(1),
        held: NanoUsd(2),
        left: NanoUsd(3),
        resets_at: None,
    };
    let rate = RateStatus {
        scope: Scope::Key,
        unit: RateUnit::Requests,
        limit: a,
        used: 1,
        left: 2,
        resets_at: Some(UnixMs(a)),
    };
    let windows = SpendWindows { total: NanoUsd(a), ..SpendWindows::default() };
    ScopeRecord {
        workspace: (n > 9).then(|| workspace(n, text)),
        usage: windows,
        byok_usage: SpendWindows::default(),
        held: NanoUsd(a),
        budgets: vec![budget; usize::from(n) % 5],
        rates: vec![rate; usize::from(n) % 3],
    }
}

/// A part of a sealed answer.
fn kept(n: u8, bytes: usize, now: UnixMs) -> KeptPart {
    let (name, request) = (Digest32([n; 32]), RequestId(n.into()));
    KeptPart { name, request, now, len: u32::MAX, at: n.into(), part: vec![n; bytes].into() }
}

proptest! {
    #[test]
    fn every_question_comes_back(call: u64, n: u8, a: u64, id: u128, text in ".{0,60}") {
        let (by, hash, now) = (KeyHash([n; 32]), KeyHash([n ^ 1; 32]), UnixMs(a));
        let is_odd = !n.is_multiple_of(2);
        let query =
            ActivityQuery { day: is_odd.then_some(UtcDay(n.into())), key: (n > 9).then_some(hash) };
        let page = KeyPage { offset: usize::from(n), limit: 7, include_disabled: is_odd };
        let questions = [
            Question::Receipt(RequestId(id)),
            Question::Generation(RequestId(id)),
            Question::KeyStatus { key: by, now },
            Question::Activity { account: AccountId(a), query, now },
            Question::Policy(PolicyId(Digest32([n; 32]))),
            Question::Checkpoint,
            Question::Consistency(a),
            Question::CreateKey { by, draft: draft(n), now },
            Question::ListKeys { by, page, now },
            Question::GetKey { by, hash, now },
            Question::UpdateKey { by, hash, patch: patch(n), now },
            Question::DeleteKey { by, hash, now },
            Question::Account(text.clone()),
            Question::Figures { day: UtcDay(n.into()), now },
            Question::CreateWorkspace { by, draft: WorkspaceDraft { name: text.clone(), slug: text.clone() }, now },
            Question::ListWorkspaces { by, offset: a, now },
            Question::Limits { by, of: scope(n, &text), now },
            Question::SetLimits { by, of: scope(n, &text), patch: limits(n, a), now },
            Question::Claimed { claim: claim(n), now },
            Question::Keep(kept(n, KEEP_PART_BYTES_MAX, now)),
            Question::Outcome { name: Digest32([n; 32]), request: RequestId(id) },
        ];
        for mut question in questions {
            let has_clock = question.clock().is_some_and(|clock| *clock == now);
            let is_of_now = matches!(
                question,
                Question::KeyStatus { .. } | Question::Activity { .. } | Question::Figures { .. } | Question::ListKeys { .. } | Question::GetKey { .. }
                    | Question::ListWorkspaces { .. } | Question::Limits { .. } | Question::Claimed { .. }
            );
            prop_assert_eq!(has_clock, is_of_now || question.is_change());
            check(call, &Request::Ask(Box::new(question)));
        }
    }

    #[test]
    fn every_answer_comes_back(n: u8, a: u64, text in ".{0,60}") {
        let settlement = largest();
        let status = KeyStatus {
            key: record(n),
            held: NanoUsd(1),
            account_credited: NanoUsd(a),
            account_spent: NanoUsd(2),
            account_available: NanoUsd(3),
            budgets: vec![
                BudgetStatus {
                    scope: Scope::Workspace,
                    reset: LimitReset::ALL[usize::from(n) % 4],
                    limit: NanoUsd(a),
                    includes_byok: n > 9,
                    spent: NanoUsd(1),
                    held: NanoUsd(2),
                    left: NanoUsd(3),
                    resets_at: (n > 99).then_some(UnixMs(a)),
                };
                usize::from(n) % 10
            ],
            rates: vec![
                RateStatus {
                    scope: Scope::Organisation,
                    unit: RateUnit::Tokens,
                    limit: a,
                    used: 1,
                    left: 2,
                    resets_at: (n > 99).then_some(UnixMs(a)),
                };
                usize::from(n) % 7
            ],
        };
        let generation = Generation { receipt: settlement.receipt, note: settlement.note };
        let mut answers = vec![
            Answer::Receipt(None),
            Answer::Receipt(Some(Box::new(document(n)))),
            Answer::Generation(None),
            Answer::Generation(Some(Box::new(generation))),
            Answer::KeyStatus(Box::new(status)),
            Answer::Activity(vec![row(n); usize::from(n)]),
            Answer::Figures(None),
            Answer::Figures(Some(text.as_str().into())),
            Answer::Policy(None),
            Answer::Policy(Some(policy(POLICY_BYTES_MAX))),
            Answer::Checkpoint(checkpoint(n)),
            Answer::Consistency(vec![Digest32([n; 32]); usize::from(n) % 129]),
            Answer::Created(Box::new(record(n)), KeySecret(text.clone())),
            Answer::Keys(vec![record(n); usize::from(n) % 101]),
            Answer::Key(Box::new(record(n))),
            Answer::Deleted,
            Answer::Account(None),
            Answer::Account(Some(AccountId(a))),
            Answer::Workspace(Box::new(workspace(n, &text))),
            Answer::Workspaces(vec![workspace(n, &text); usize::from(n) % 101]),
            Answer::Limits(Box::new(limits_of(n, a, &text))),
            Answer::Claimed,
            Answer::Kept,
            Answer::Outcome(None),
            Answer::Outcome(Some(vec![n; usize::from(n)].into())),
            Answer::Refused(AccountsError::NotFound),
            Answer::Refused(AccountsError::NoWorkspace),
            Answer::Refused(AccountsError::Operators),
        ];
        answers.extend(RULES.map(|rule| Answer::Refused(rule.broken())));
        answers.extend(errors(a, 1, &text).into_iter().map(|error| Answer::Refused(error.into())));
        for answer in answers {
            let bytes = answer.to_bytes();
            let read = Answer::from_bytes(&bytes);
            prop_assert_eq!(read.as_ref(), Ok(&answer));
            prop_assert!(Answer::from_bytes(&bytes[..bytes.len() - 1]).is_err());
            prop_assert!(Answer::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        }
    }

    #[test]
    fn any_bytes_are_an_answer_or_an_error(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u8..24, flip in 0usize..3_000, with: u8,
    ) {
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        let _ = Answer::from_bytes(&bytes);
        let mut document = Answer::Receipt(Some(Box::new(document(9)))).to_bytes();
        let at = flip % document.len();
        document[at] = with;
        let _ = Answer::from_bytes(&document);
    }
}

#[test]
fn the_longest_question_fits_a_frame_and_the_longest_answer_its_bound() {
    let (by, now) = (KeyHash([1; 32]), UnixMs(1));
    let longest = frame(1, &Request::Ask(Box::new(Question::CreateKey { by, draft: draft(255), now })));
    assert!(longest.len() < FRAME_BYTES_MAX);
    let rows = ACTIVITY_DAYS as usize * (ACTIVITY_ROWS_PER_DAY_MAX + 1);
    let activity = Answer::Activity(vec![row(1); rows]).to_bytes();
    assert!(activity.len() < ANSWER_BYTES_MAX && activity.len() > ANSWER_BYTES_MAX / 2, "{}", activity.len());
    assert!(Answer::from_bytes(&activity).is_ok());
}

#[test]
fn lists_and_parts_have_their_bounds() {
    let long =
        |answer: &Answer| matches!(Answer::from_bytes(&answer.to_bytes()), Err(CanonicalError::Long(_)));
    let rows = ACTIVITY_DAYS as usize * (ACTIVITY_ROWS_PER_DAY_MAX + 1);
    assert!(long(&Answer::Activity(vec![row(1); rows + 1])));
    let figures = |bytes: usize| Answer::Figures(Some("7".repeat(bytes).into()));
    assert!(!long(&figures(FIGURES_BYTES_MAX)) && long(&figures(FIGURES_BYTES_MAX + 1)));
    assert!(!long(&Answer::Keys(vec![record(1); KEYS_PAGE_MAX])));
    assert!(long(&Answer::Keys(vec![record(1); KEYS_PAGE_MAX + 1])));
    assert!(!long(&Answer::Consistency(vec![Digest32([1; 32]); 128])));
    assert!(long(&Answer::Consistency(vec![Digest32([1; 32]); 129])));
    assert!(!long(&Answer::Workspaces(vec![workspace(1, "a"); WORKSPACES_PAGE_MAX])));
    assert!(long(&Answer::Workspaces(vec![workspace(1, "a"); WORKSPACES_PAGE_MAX + 1])));
    let sealed = |bytes: usize| Answer::Outcome(Some(vec![1; bytes].into()));
    assert!(!long(&sealed(SEALED_BYTES_MAX)) && long(&sealed(SEALED_BYTES_MAX + 1)));
    let kept = |bytes: usize| {
        let bytes = frame(1, &Request::Ask(Box::new(Question::Keep(kept(1, bytes, UnixMs(1))))));
        decode::<Request>(&bytes, FRAME_BYTES_MAX).is_ok()
    };
    assert_eq!([KEEP_PART_BYTES_MAX, KEEP_PART_BYTES_MAX + 1].map(kept), [true, false]);
    let part = |bytes: usize| {
        let bytes = frame(1, &Reply::Part { bytes: vec![7; bytes], is_last: true });
        decode::<Reply>(&bytes, FRAME_BYTES_MAX).is_ok()
    };
    assert_eq!([PART_BYTES_MAX, PART_BYTES_MAX + 1].map(part), [true, false]);
}

#[test]
fn a_rule_that_is_not_known_becomes_a_general_one_and_no_policy_is_refused() {
    let odd = AccountsError::Invalid { field: "colour", rule: "must be blue" };
    let told = Answer::from_bytes(&Answer::Refused(odd).to_bytes());
    assert_eq!(told, Ok(Answer::Refused(RULES[RULES.len() - 1].broken())));
    let mut bytes = Answer::Policy(Some(policy(2))).to_bytes();
    *bytes.last_mut().unwrap() = b'[';
    assert_eq!(Answer::from_bytes(&bytes), Err(CanonicalError::Value("policy")));
}
