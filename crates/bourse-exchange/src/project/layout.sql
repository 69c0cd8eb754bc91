-- What `bourse ledger project` writes: the books as tables for whoever asks in SQL. Amounts are whole units of their
-- account (nano-dollars for money); times are the ledger's. A change here raises LAYOUT in project.rs.
CREATE SCHEMA bourse_read;

-- How far the tables have come. The one row is locked while a batch is written.
CREATE TABLE bourse_read.head(
    one INT PRIMARY KEY CHECK (one = 1),
    layout BIGINT NOT NULL,
    group_seq BIGINT NOT NULL,
    chain BYTEA NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    receipts BIGINT NOT NULL,
    source_seq BIGINT NOT NULL,
    projected_at TIMESTAMPTZ NOT NULL,
    caught_up_at TIMESTAMPTZ);

CREATE TABLE bourse_read.accounts(
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    balance_limit TEXT NOT NULL,
    unit TEXT NOT NULL,
    opened_at TIMESTAMPTZ NOT NULL,
    digest BYTEA NOT NULL UNIQUE);
CREATE INDEX accounts_name ON bourse_read.accounts(name);

CREATE TABLE bourse_read.balances(
    account BIGINT PRIMARY KEY REFERENCES bourse_read.accounts,
    debits_pending NUMERIC(39) NOT NULL DEFAULT 0 CHECK (debits_pending >= 0),
    debits_posted NUMERIC(39) NOT NULL DEFAULT 0 CHECK (debits_posted >= 0),
    credits_pending NUMERIC(39) NOT NULL DEFAULT 0 CHECK (credits_pending >= 0),
    credits_posted NUMERIC(39) NOT NULL DEFAULT 0 CHECK (credits_posted >= 0));

-- Settled movements, by the group that they are in and their place in it.
CREATE TABLE bourse_read.transfers(
    group_seq BIGINT NOT NULL,
    place INT NOT NULL,
    id TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    request TEXT,
    debit BIGINT NOT NULL,
    credit BIGINT NOT NULL,
    amount NUMERIC(20) NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (group_seq, place));
CREATE INDEX transfers_debit ON bourse_read.transfers(debit, at);
CREATE INDEX transfers_credit ON bourse_read.transfers(credit, at);
CREATE INDEX transfers_request ON bourse_read.transfers(request) WHERE request IS NOT NULL;

-- What is set aside now.
CREATE TABLE bourse_read.holds(
    id TEXT PRIMARY KEY,
    debit BIGINT NOT NULL,
    credit BIGINT NOT NULL,
    amount NUMERIC(20) NOT NULL CHECK (amount >= 0),
    expires_at TIMESTAMPTZ NOT NULL);

CREATE TABLE bourse_read.receipts(
    leaf BIGINT PRIMARY KEY,
    group_seq BIGINT NOT NULL,
    request TEXT NOT NULL,
    account_digest BYTEA NOT NULL,
    key_digest BYTEA NOT NULL,
    model TEXT NOT NULL,
    seller TEXT,
    finish TEXT NOT NULL,
    is_streamed BOOLEAN NOT NULL,
    is_byok BOOLEAN NOT NULL,
    attempts INT NOT NULL,
    prompt_tokens NUMERIC(20) NOT NULL,
    cached_prompt_tokens NUMERIC(20) NOT NULL,
    completion_tokens NUMERIC(20) NOT NULL,
    units NUMERIC(20) NOT NULL,
    charge NUMERIC(20) NOT NULL,
    fee NUMERIC(20) NOT NULL,
    byok_cost NUMERIC(20),
    request_hash BYTEA NOT NULL,
    response_hash BYTEA NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    settled_at TIMESTAMPTZ NOT NULL,
    first_content_ms NUMERIC(20),
    total_ms NUMERIC(20) NOT NULL);
CREATE INDEX receipts_request ON bourse_read.receipts(request);
CREATE INDEX receipts_account ON bourse_read.receipts(account_digest, settled_at);

-- Requests that a seller answered, by the day on which they were settled.
CREATE TABLE bourse_read.activity(
    day DATE NOT NULL,
    account_digest BYTEA NOT NULL,
    key_digest BYTEA NOT NULL,
    model TEXT NOT NULL,
    seller TEXT NOT NULL,
    requests NUMERIC(20) NOT NULL,
    prompt_tokens NUMERIC(39) NOT NULL,
    completion_tokens NUMERIC(39) NOT NULL,
    reasoning_tokens NUMERIC(39) NOT NULL,
    cost NUMERIC(39) NOT NULL,
    byok_cost NUMERIC(39) NOT NULL,
    PRIMARY KEY (day, account_digest, key_digest, model, seller));

CREATE TABLE bourse_read.epochs(
    number BIGINT PRIMARY KEY,
    closed_at TIMESTAMPTZ NOT NULL,
    root BYTEA NOT NULL,
    total NUMERIC(39) NOT NULL,
    accounts BIGINT NOT NULL,
    previous BYTEA NOT NULL,
    exchange BYTEA NOT NULL,
    signature BYTEA NOT NULL);

-- Keys without the key and without its hash.
CREATE TABLE bourse_read.keys(
    digest BYTEA PRIMARY KEY,
    id TEXT NOT NULL,
    account BIGINT NOT NULL,
    role TEXT NOT NULL,
    label TEXT NOT NULL,
    is_disabled BOOLEAN NOT NULL,
    spend_limit NUMERIC(20),
    limit_reset TEXT NOT NULL,
    includes_byok BOOLEAN NOT NULL,
    creator TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ);

-- What sellers were paid or are about to be. `hold` is the payout's id as that of its hold; where sellers take money is in no
-- table. A payout that was paid after it had failed has both times.
CREATE TABLE bourse_read.payouts(
    id TEXT PRIMARY KEY,
    hold TEXT NOT NULL UNIQUE,
    seller BIGINT NOT NULL,
    amount NUMERIC(20) NOT NULL CHECK (amount >= 0),
    rail TEXT NOT NULL,
    state TEXT NOT NULL,
    planned_at TIMESTAMPTZ NOT NULL,
    sending_at TIMESTAMPTZ,
    paid_at TIMESTAMPTZ,
    failed_at TIMESTAMPTZ,
    late_at TIMESTAMPTZ,
    reference TEXT,
    reason TEXT);
CREATE INDEX payouts_seller ON bourse_read.payouts(seller, planned_at);

-- What everybody has now.
CREATE VIEW bourse_read.account_balances AS
    SELECT a.id, a.name, a.kind, a.unit,
        b.credits_posted - b.debits_posted AS balance,
        b.debits_pending AS held,
        greatest(b.credits_posted - b.debits_posted - b.debits_pending, 0) AS available,
        CASE WHEN a.unit = 'nano-USD' THEN (b.credits_posted - b.debits_posted) * 0.000000001 END AS balance_usd
    FROM bourse_read.accounts a JOIN bourse_read.balances b ON b.account = a.id;

-- What settled on each account, credits positive.
CREATE VIEW bourse_read.movements AS
    SELECT credit AS account, debit AS counterpart, group_seq, place, id, at, request, amount
        FROM bourse_read.transfers
    UNION ALL
    SELECT debit, credit, group_seq, place, id, at, request, -amount FROM bourse_read.transfers;

-- What an account had before that moment.
CREATE FUNCTION bourse_read.balance_at(account_name TEXT, moment TIMESTAMPTZ) RETURNS NUMERIC
    LANGUAGE SQL STABLE AS $$
        SELECT coalesce(sum(m.amount), 0) FROM bourse_read.movements m
        WHERE m.account = (SELECT a.id FROM bourse_read.accounts a WHERE a.name = account_name) AND m.at < moment
    $$;

-- What each account spent, by day and model.
CREATE VIEW bourse_read.spend_by_day_and_model AS
    SELECT v.day, a.name AS account, v.model, sum(v.requests) AS requests, sum(v.prompt_tokens) AS prompt_tokens,
        sum(v.completion_tokens) AS completion_tokens, sum(v.cost) AS cost, sum(v.cost) * 0.000000001 AS cost_usd
    FROM bourse_read.activity v JOIN bourse_read.accounts a ON a.digest = v.account_digest
    GROUP BY v.day, a.name, v.model;

-- What sellers earned by requests, by day in UTC.
CREATE VIEW bourse_read.seller_revenue AS
    SELECT (t.at AT TIME ZONE 'UTC')::DATE AS day, a.name AS seller, count(*) AS requests, sum(t.amount) AS revenue,
        sum(t.amount) * 0.000000001 AS revenue_usd
    FROM bourse_read.transfers t JOIN bourse_read.accounts a ON a.id = t.credit
    WHERE a.kind = 'seller_payable' AND t.request IS NOT NULL
    GROUP BY 1, 2;

-- What sellers were paid, is on its way to them, or failed.
CREATE VIEW bourse_read.payouts_by_seller AS
    SELECT a.name AS seller, p.state, count(*) AS payouts, sum(p.amount) AS amount,
        sum(p.amount) * 0.000000001 AS amount_usd
    FROM bourse_read.payouts p JOIN bourse_read.accounts a ON a.id = p.seller
    GROUP BY a.name, p.state;

-- Debits and credits of each unit; the difference is zero or the books are wrong.
CREATE VIEW bourse_read.trial_balance AS
    SELECT a.unit, sum(b.debits_posted) AS debits, sum(b.credits_posted) AS credits,
        sum(b.credits_posted) - sum(b.debits_posted) AS difference,
        sum(b.credits_pending) - sum(b.debits_pending) AS pending_difference
    FROM bourse_read.accounts a JOIN bourse_read.balances b ON b.account = a.id
    GROUP BY a.unit;

-- How far the tables are behind: in groups that were known to be there, and in time.
CREATE VIEW bourse_read.progress AS
    SELECT group_seq, source_seq, source_seq - group_seq AS groups_behind, at AS ledger_time, projected_at,
        caught_up_at, clock_timestamp() - caught_up_at AS since_caught_up
    FROM bourse_read.head;
