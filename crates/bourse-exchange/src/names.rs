//! The chart of accounts: which account is whose, and what it is called.
//!
//! The house's own accounts have fixed ids. Customers and sellers get the next free id when they are
//! first seen; the journal records the name, so that replay gives the same id again.

use bourse_ledger::{Account, AccountKind, BalanceLimit};
use bourse_types::{AccountId, SellerName};
use std::collections::{BTreeMap, HashMap};

/// Where free credit comes from; may go into debt, which is the market's expense.
pub const SUBSIDY: AccountId = AccountId(1);
/// The market's fee.
pub const FEE: AccountId = AccountId(2);
/// What rounding up left over.
pub const ROUNDING: AccountId = AccountId(3);
/// Where a charge rests within one settlement. Zero between settlements.
pub const CLEARING: AccountId = AccountId(4);
/// The other side of key allowances.
pub const ALLOWANCES: AccountId = AccountId(5);
/// The operator's own customer account.
pub const OPERATOR: AccountId = AccountId(6);
/// Name of the operator's account.
pub const OPERATOR_NAME: &str = "operator";
/// Shares of sellers whose claims are beyond the market's own count. Opened when it is first needed.
pub const SUSPENSE: AccountId = AccountId(7);
/// Name of the account of shares in suspense.
pub(crate) const SUSPENSE_NAME: &str = "suspense";
/// What sellers gave away, at list price: a memorandum, no money. Opened when it is first needed.
pub const FREE: AccountId = AccountId(12);
/// Name of the account of what sellers gave away.
pub(crate) const FREE_NAME: &str = "free";
/// The other side of memoranda. Opened when it is first needed.
pub const MEMO: AccountId = AccountId(13);
/// Name of the other side of memoranda.
pub(crate) const MEMO_NAME: &str = "memo";
/// Money that lies with somebody else for the market: what was paid in and not paid out. Opened when it is first needed.
pub const ESCROW: AccountId = AccountId(8);
/// Name of that account.
pub(crate) const ESCROW_NAME: &str = "escrow";
/// The house's names that older books do not have yet, and that no customer may take.
pub(crate) const OPENED_LATER: [&str; 4] = [SUSPENSE_NAME, FREE_NAME, MEMO_NAME, ESCROW_NAME];
/// The first id that customers, sellers and allowances get.
pub(crate) const FIRST_FREE: u64 = 16;
/// Longest name of an account, in bytes: a seller's name and its prefix.
pub const ACCOUNT_NAME_BYTES_MAX: usize = 160;

/// What the name of a seller's payable account begins with.
pub const SELLER_PREFIX: &str = "seller:";

/// The house's own accounts with their names.
pub(crate) const HOUSE: [(&str, Account); 6] = [
    ("subsidy", house(SUBSIDY, AccountKind::Subsidy, BalanceLimit::None)),
    ("fee", house(FEE, AccountKind::Fee, BalanceLimit::DebitsWithinCredits)),
    ("rounding", house(ROUNDING, AccountKind::Rounding, BalanceLimit::DebitsWithinCredits)),
    ("clearing", house(CLEARING, AccountKind::Clearing, BalanceLimit::DebitsWithinCredits)),
    ("allowances", house(ALLOWANCES, AccountKind::Control, BalanceLimit::None)),
    (OPERATOR_NAME, house(OPERATOR, AccountKind::Customer, BalanceLimit::DebitsWithinCredits)),
];

const fn house(id: AccountId, kind: AccountKind, limit: BalanceLimit) -> Account {
    Account::of_money(id, kind, limit)
}

/// The chart. Grows with customers and sellers, bounded by the ledger's number of accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    by_name: BTreeMap<String, AccountId>,
    by_account: BTreeMap<AccountId, String>,
    sellers: HashMap<SellerName, AccountId>,
    next: u64,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self {
            by_name: BTreeMap::new(),
            by_account: BTreeMap::new(),
            sellers: HashMap::new(),
            next: FIRST_FREE,
        }
    }

    /// The id that the next account gets. Taken by [`Names::add`].
    pub(crate) fn next_id(&self) -> AccountId {
        AccountId(self.next)
    }

    pub(crate) fn add(&mut self, account: AccountId, name: String) {
        self.next = self.next.max(account.0.saturating_add(1));
        if let Some(seller) = seller_of_account(&name) {
            self.sellers.insert(seller, account);
        }
        self.by_name.insert(name.clone(), account);
        self.by_account.insert(account, name);
    }

    pub(crate) fn account(&self, name: &str) -> Option<AccountId> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn seller(&self, name: &SellerName) -> Option<AccountId> {
        self.sellers.get(name).copied()
    }

    /// What an account is called; its number when it has no name.
    pub(crate) fn name(&self, account: AccountId) -> String {
        self.by_account.get(&account).cloned().unwrap_or_else(|| format!("account {}", account.0))
    }

    /// By account.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (AccountId, &str)> {
        self.by_account.iter().map(|(account, name)| (*account, name.as_str()))
    }
}

/// Whose payable account is called so; none of another account.
pub(crate) fn seller_of_account(name: &str) -> Option<SellerName> {
    name.strip_prefix(SELLER_PREFIX).and_then(|name| SellerName::parse(name).ok())
}

/// What the payable account of a seller is called.
pub fn seller_account_name(seller: &SellerName) -> String {
    format!("{SELLER_PREFIX}{seller}")
}
