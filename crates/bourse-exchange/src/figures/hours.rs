//! How long a seller's machines were there, and with how many GPUs.

use bourse_types::NanoUsd;

const MS_PER_HOUR: u128 = 3_600_000;

/// Milliseconds by what is known of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Attended {
    /// Of all machines.
    machine: u64,
    /// Of GPUs, each counted.
    gpu: u64,
    /// Of machines without a GPU.
    cpu: u64,
    /// Of machines that do not say.
    unknown: u64,
}

impl Attended {
    pub(super) fn add(&mut self, gpus: Option<u32>, ms: u64) {
        self.machine = self.machine.saturating_add(ms);
        let of_gpus = |n: u32| ms.saturating_mul(u64::from(n));
        match gpus {
            None => self.unknown = self.unknown.saturating_add(ms),
            Some(0) => self.cpu = self.cpu.saturating_add(ms),
            Some(n) => self.gpu = self.gpu.saturating_add(of_gpus(n)),
        }
    }

    /// Time of machines; none where nobody told of any.
    pub(super) fn machine_ms(&self) -> Option<u64> {
        (self.machine > 0).then_some(self.machine)
    }

    /// Time of GPUs; none where it is not known of all its machines.
    pub(super) fn gpu_ms(&self) -> Option<u64> {
        self.machine_ms().filter(|_| self.unknown == 0).map(|_| self.gpu)
    }

    /// Whether all that it earned, it earned with GPUs whose time is known.
    pub(super) fn is_all_of_gpus(&self) -> bool {
        self.gpu > 0 && self.cpu == 0 && self.unknown == 0
    }

    pub(super) fn plus(&mut self, other: &Self) {
        self.machine = self.machine.saturating_add(other.machine);
        self.gpu = self.gpu.saturating_add(other.gpu);
        self.cpu = self.cpu.saturating_add(other.cpu);
        self.unknown = self.unknown.saturating_add(other.unknown);
    }

    /// Revenue for each hour of a GPU, rounded down; none where it is not known, or not all earned with GPUs.
    pub(super) fn per_gpu_hour(&self, revenue: u128) -> Option<NanoUsd> {
        let is_known = self.is_all_of_gpus();
        let per_hour =
            revenue.checked_mul(MS_PER_HOUR)?.checked_div(u128::from(self.gpu)).filter(|_| is_known)?;
        u64::try_from(per_hour).ok().map(NanoUsd)
    }
}

/// Hours with three places, rounded down; `unknown` where nobody knows.
pub(super) fn hours(ms: Option<u64>) -> String {
    ms.map_or_else(|| "unknown".to_owned(), |ms| format!("{}.{:03}", ms / 3_600_000, ms % 3_600_000 / 3_600))
}
