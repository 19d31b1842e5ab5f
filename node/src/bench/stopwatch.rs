//! What a piece of work took.

use std::time::Instant;

/// What a piece of work took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lap {
    /// Wall time.
    pub seconds: f64,
    /// Processor time of this process, user and system, all threads.
    pub cpu_s: f64,
}

/// Runs from its start on.
#[derive(Debug)]
pub struct Stopwatch {
    begun: Instant,
    cpu_s: f64,
}

impl Stopwatch {
    /// Begins.
    pub fn start() -> Self {
        Self {
            cpu_s: cpu_s(),
            begun: Instant::now(),
        }
    }

    /// What was used since the start.
    pub fn stop(&self) -> Lap {
        Lap {
            seconds: self.begun.elapsed().as_secs_f64(),
            cpu_s: cpu_s() - self.cpu_s,
        }
    }
}

/// Processor time of this process so far.
fn cpu_s() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time_of_both_kinds() {
        let watch = Stopwatch::start();
        while watch.stop().cpu_s <= 0.001 {
            std::hint::spin_loop();
        }
        let lap = watch.stop();
        assert!(lap.seconds > 0.0 && lap.cpu_s > 0.001, "{lap:?}");
    }
}
