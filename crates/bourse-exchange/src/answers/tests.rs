//! Every store of answers does the same, within its bounds.

use super::*;

const NOW: UnixMs = UnixMs(1_800_000_000_000);
const DAY_MS: u64 = CLAIM_AGE_MAX.0;

fn outcome(name: u8, request: u128, bytes: usize, at_ms: u64) -> Outcome {
    let (name, request, now) = (Digest32([name; 32]), RequestId(request), UnixMs(NOW.0 + at_ms));
    Outcome { name, request, sealed: vec![name.0[0]; bytes].into(), now }
}

fn keeper(store: Box<dyn AnswerStore>, count_max: usize, bytes_max: u64) -> Keeper {
    Keeper { count_max, bytes_max, ..Keeper::new(store) }
}

impl Keeper {
    fn take(&mut self, outcome: &Outcome) {
        self.put(outcome).unwrap();
        self.tidy(outcome.now).unwrap();
        assert_eq!(self.totals, Some(self.store.totals().unwrap()), "what is counted is there");
    }

    /// The names of the answers that are there, each with its bytes.
    fn names(&mut self) -> Vec<(u8, usize)> {
        let found = |name: u8| {
            let sealed = self.store.find(Digest32([name; 32]), RequestId(name.into())).unwrap();
            sealed.map(|sealed| (name, sealed.len()))
        };
        (0..9).filter_map(found).collect()
    }
}

/// What every store does. `open` gives the same store again.
fn check_store(mut open: impl FnMut() -> Box<dyn AnswerStore>) {
    let mut keeper = keeper(open(), 3, 100);
    keeper.take(&outcome(1, 1, 40, 0));
    keeper.take(&outcome(2, 2, 40, 1));
    assert_eq!(keeper.store.find(Digest32([1; 32]), RequestId(9)), Ok(None), "another request's");
    keeper.take(&outcome(3, 3, 20, 2));
    assert_eq!(keeper.names(), [(1, 40), (2, 40), (3, 20)], "100 bytes fit");
    keeper.take(&outcome(3, 3, 21, 3));
    assert_eq!(keeper.names(), [(2, 40), (3, 21)], "one more makes the oldest go");
    keeper.take(&outcome(4, 4, 0, 4));
    keeper.take(&outcome(5, 5, 1, 5));
    assert_eq!(keeper.names(), [(3, 21), (4, 0), (5, 1)], "three are the most");
    drop(keeper);
    let mut again = self::keeper(open(), 3, 100);
    assert_eq!(again.names(), [(3, 21), (4, 0), (5, 1)], "what was kept is there again");
    again.take(&outcome(3, 3, 5, 6));
    again.take(&outcome(6, 6, 5, DAY_MS + 3));
    assert_eq!(
        again.names(),
        [(3, 5), (5, 1), (6, 5)],
        "what was put anew is the newest; three are the most"
    );
    again.take(&outcome(6, 6, 5, DAY_MS + 5));
    assert_eq!(again.names(), [(3, 5), (6, 5)], "a day is too old");
    again.take(&outcome(6, 6, 5, DAY_MS + 5));
    assert_eq!(again.names(), [(3, 5), (6, 5)], "less than a day is not");
}

/// A store in memory with several handles.
impl AnswerStore for Arc<Mutex<MemoryAnswers>> {
    fn totals(&mut self) -> Result<Totals, AnswersError> {
        self.lock().totals()
    }
    fn put(&mut self, outcome: &Outcome) -> Result<Option<u64>, AnswersError> {
        self.lock().put(outcome)
    }
    fn find(&mut self, name: Digest32, request: RequestId) -> Result<Option<Bytes>, AnswersError> {
        self.lock().find(name, request)
    }
    fn oldest(&mut self) -> Result<Option<UnixMs>, AnswersError> {
        self.lock().oldest()
    }
    fn drop_oldest(&mut self) -> Result<u64, AnswersError> {
        self.lock().drop_oldest()
    }
}

#[test]
fn answers_in_memory() {
    let shared: Arc<Mutex<MemoryAnswers>> = Arc::default();
    check_store(|| Box::new(Arc::clone(&shared)));
}

#[test]
fn answers_in_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    check_store(|| Box::new(SqliteAnswers::open(dir.path()).unwrap()));
    let file = dir.path().join(ANSWERS_FILE);
    std::fs::write(&file, "no database").unwrap();
    let mut anew = SqliteAnswers::open(dir.path()).unwrap();
    assert_eq!(anew.totals(), Ok(Totals::default()), "a damaged file begins anew");
}

#[test]
fn answers_in_a_database() {
    let cluster = crate::tests::cluster::Cluster::start();
    check_store(|| Box::new(PostgresAnswers::at(crate::store::Database::at(&cluster.url()).unwrap())));
}

fn now_or_panic<T>(future: BoxFuture<'static, T>) -> T {
    crate::tests::support::block_on(future)
}

#[test]
fn an_answer_is_found_once_it_was_given_and_its_size_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let store = || Box::new(SqliteAnswers::open(dir.path()).unwrap());
    let answers = Answers::start(store()).unwrap();
    let largest = outcome(1, 1, SEALED_BYTES_MAX, 0);
    // Nobody waits for it to be kept.
    drop(answers.keep(largest.clone()));
    let find = |answers: &Answers| now_or_panic(answers.find(largest.name, largest.request));
    assert_eq!(find(&answers), Ok(Some(largest.sealed.clone())));
    let over = now_or_panic(answers.keep(outcome(2, 2, SEALED_BYTES_MAX + 1, 0)));
    assert_eq!(over, Err(FundsError::TooMany(TOO_MANY)));
    answers.close();
    assert_eq!(find(&answers), Err(FundsError::Closing));
    let again = Answers::start(store()).unwrap();
    assert_eq!(find(&again), Ok(Some(largest.sealed.clone())));
    again.close();
}

/// A store that does not come to an end until it is told to.
struct Stuck(Receiver<()>);

impl AnswerStore for Stuck {
    fn totals(&mut self) -> Result<Totals, AnswersError> {
        let _ = self.0.recv();
        Err(AnswersError("stuck".to_owned()))
    }
    fn put(&mut self, _: &Outcome) -> Result<Option<u64>, AnswersError> {
        Ok(None)
    }
    fn find(&mut self, _: Digest32, _: RequestId) -> Result<Option<Bytes>, AnswersError> {
        Ok(None)
    }
    fn oldest(&mut self) -> Result<Option<UnixMs>, AnswersError> {
        Ok(None)
    }
    fn drop_oldest(&mut self) -> Result<u64, AnswersError> {
        Ok(0)
    }
}

#[test]
fn what_waits_for_the_store_is_bounded_in_bytes() {
    let (go, stuck) = sync_channel(0);
    let answers = Answers::start(Box::new(Stuck(stuck))).unwrap();
    let bytes = 4 * 1024 * 1024;
    let kept: Vec<_> =
        (0..WAITING_BYTES_MAX / bytes).map(|n| answers.keep(outcome(n as u8, 1, bytes, 0))).collect();
    let over = now_or_panic(answers.keep(outcome(99, 1, 1, 0)));
    assert_eq!(over, Err(FundsError::TooMany(TOO_MANY)), "one byte too many");
    drop(go);
    for kept in kept {
        let error = now_or_panic(kept).unwrap_err();
        assert!(matches!(&error, FundsError::Journal(why) if why.contains("stuck")), "{error}");
    }
    answers.close();
}
