//! The reference engine behind the plug: one thread owns it and steps it.
//!
//! The thread takes commands between steps, hands each step's events out, and sleeps on its command
//! channel when there is nothing to do: no polling, no spinning. The command channel needs no bound of its
//! own, because a generation causes at most two commands and open generations are counted. A panic inside
//! the engine ends the thread; the load channel closes with it and the node sees a dead engine, not a hang.

use super::{Engine, EngineCapabilities, EngineError, EngineEvent, EventSender, Generation, GenerationId};
use bourse_engine::{
    BatchEngine, EngineConfig, EngineConfigError, Model, SequenceId, SequenceRequest, StepEvent,
};
use bourse_wire::node::Load;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::watch;

/// Why the reference engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceEngineError {
    /// Its limits are out of range.
    #[error("the engine's limits cannot be used")]
    Config(#[from] EngineConfigError),
    /// The system gave no thread.
    #[error("the engine's thread could not be started")]
    Thread(#[from] std::io::Error),
}

enum Command {
    Submit(GenerationId, Box<Generation>, EventSender),
    Cancel(GenerationId),
}

/// The reference engine on its own thread. Dropping it ends the thread after the step in progress.
#[derive(Debug)]
pub struct ReferenceEngine {
    capabilities: EngineCapabilities,
    commands: Option<Mutex<Sender<Command>>>,
    open: Arc<AtomicUsize>,
    next_id: AtomicU64,
    load: watch::Receiver<Load>,
    thread: Option<JoinHandle<()>>,
}

impl ReferenceEngine {
    /// Reserves the cache and starts the thread.
    pub fn start(model: Arc<Model>, config: EngineConfig) -> Result<Self, ReferenceEngineError> {
        let kv_tokens_max = config.kv_tokens_max;
        let capabilities = capabilities(&model, &config);
        let engine = BatchEngine::new(model, config)?;
        let (commands, receiver) = channel();
        let idle = Load { kv_tokens_max: kv_tokens_max as u64, ..Load::default() };
        let (load_sender, load) = watch::channel(idle);
        let open = Arc::new(AtomicUsize::new(0));
        let mut owner = Owner {
            engine,
            kv_tokens_max: kv_tokens_max as u64,
            by_sequence: HashMap::new(),
            by_generation: HashMap::new(),
            open: Arc::clone(&open),
            load: load_sender,
        };
        let run = move || {
            // The engine is not used after a panic, so a broken invariant inside it cannot spread.
            let ended = catch_unwind(AssertUnwindSafe(|| owner.run(&receiver)));
            if ended.is_err() {
                tracing::error!("the reference engine failed; the node has to be started again");
            }
        };
        let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(run)?;
        Ok(Self {
            capabilities,
            commands: Some(Mutex::new(commands)),
            open,
            next_id: AtomicU64::new(0),
            load,
            thread: Some(thread),
        })
    }

    fn command(&self, command: Command) -> Result<(), EngineError> {
        let commands = self.commands.as_ref().ok_or(EngineError::Stopped)?;
        let commands = commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.send(command).map_err(|_| EngineError::Stopped)
    }
}

fn capabilities(model: &Model, config: &EngineConfig) -> EngineCapabilities {
    let info = model.info();
    let kernel = format!("{:?}", info.kernel).to_ascii_lowercase();
    EngineCapabilities {
        name: format!("bourse-engine/{} q8_0 {kernel}", env!("CARGO_PKG_VERSION")),
        model_commitment: model.commitment(),
        vocab_size: info.vocab_size,
        // A generation holds its cache until it ends, so it can be no longer than the cache.
        context_tokens_max: u32::try_from(info.context_tokens_max.min(config.kv_tokens_max))
            .unwrap_or(u32::MAX),
        generations_max: config.queue_max,
        gpus: Some(0),
    }
}

impl Engine for ReferenceEngine {
    fn capabilities(&self) -> &EngineCapabilities {
        &self.capabilities
    }

    fn submit(&self, generation: Generation, events: EventSender) -> Result<GenerationId, EngineError> {
        let limit = self.capabilities.generations_max;
        let counted = self
            .open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| (open < limit).then_some(open + 1));
        counted.map_err(|_| EngineError::Busy)?;
        let id = GenerationId(self.next_id.fetch_add(1, Ordering::Relaxed));
        self.command(Command::Submit(id, Box::new(generation), events))?;
        Ok(id)
    }

    fn cancel(&self, id: GenerationId) {
        // A stopped engine has nothing left to cancel.
        let _ = self.command(Command::Cancel(id));
    }

    fn load(&self) -> watch::Receiver<Load> {
        self.load.clone()
    }
}

impl Drop for ReferenceEngine {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // The thread catches panics itself; there is nothing to learn from its result.
            let _ = thread.join();
        }
    }
}

/// What the thread owns.
struct Owner {
    engine: BatchEngine,
    kv_tokens_max: u64,
    by_sequence: HashMap<SequenceId, (GenerationId, EventSender)>,
    by_generation: HashMap<GenerationId, SequenceId>,
    open: Arc<AtomicUsize>,
    load: watch::Sender<Load>,
}

impl Owner {
    /// Steps until the plug is dropped.
    fn run(&mut self, commands: &Receiver<Command>) {
        let mut events = Vec::new();
        let mut idle = true;
        loop {
            if idle {
                match commands.recv() {
                    Ok(command) => self.take(command),
                    Err(_) => return,
                }
            }
            loop {
                match commands.try_recv() {
                    Ok(command) => self.take(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            let report = self.engine.step(&mut events);
            let abandoned = events.drain(..).filter_map(|event| self.deliver(event)).collect::<Vec<_>>();
            idle = report.idle && abandoned.is_empty();
            for sequence in abandoned {
                self.engine.cancel(sequence);
            }
            self.publish_load();
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Submit(id, generation, events) => match self.engine.submit(request(*generation)) {
                Ok(sequence) => {
                    self.by_generation.insert(id, sequence);
                    self.by_sequence.insert(sequence, (id, events));
                }
                Err(error) => {
                    self.open.fetch_sub(1, Ordering::AcqRel);
                    events.send(EngineEvent::Refused(error));
                }
            },
            Command::Cancel(id) => {
                if let Some(sequence) = self.by_generation.get(&id) {
                    self.engine.cancel(*sequence);
                }
            }
        }
    }

    /// Hands an event out; returns the sequence if nobody listens to it any more.
    fn deliver(&mut self, event: StepEvent) -> Option<SequenceId> {
        let (sequence, event) = match event {
            StepEvent::Admitted { id, cached_tokens, .. } => (id, EngineEvent::Admitted { cached_tokens }),
            StepEvent::Token { id, token, logprob, .. } => {
                (id, EngineEvent::Token { token, logprobs: logprob })
            }
            StepEvent::Finished { id, reason } => {
                if let Some((generation, events)) = self.by_sequence.remove(&id) {
                    self.by_generation.remove(&generation);
                    self.open.fetch_sub(1, Ordering::AcqRel);
                    events.send(EngineEvent::Finished(reason));
                }
                return None;
            }
        };
        let (_, events) = self.by_sequence.get(&sequence)?;
        if events.send(event) { None } else { Some(sequence) }
    }

    fn publish_load(&self) {
        let load = self.engine.load();
        let next = Load {
            running: load.running as u32,
            waiting: load.waiting as u32,
            kv_tokens_used: load.kv_tokens_used as u64,
            kv_tokens_max: self.kv_tokens_max,
        };
        self.load.send_if_modified(|current| {
            let changed = *current != next;
            *current = next;
            changed
        });
    }
}

fn request(generation: Generation) -> SequenceRequest {
    SequenceRequest {
        prompt: generation.prompt,
        max_tokens: generation.max_tokens,
        sampling: generation.sampling,
        run_seed: generation.run_seed,
        stop_tokens: generation.stop_tokens,
        logprobs: generation.logprobs,
    }
}
