//! What the model takes from the real nodes.

use std::path::Path;

use crate::options::Options;

/// The file that the scenario `calibrate` leaves and the model reads.
pub const FILE: &str = "calibration.txt";

/// What a lookup is like.
#[derive(Clone, Copy, Debug)]
pub struct Calibration {
    /// Chance that one of the 20 closest living peers is missing in the result of a lookup.
    pub miss: f64,
    /// Seconds a lookup takes when all entries of the routing tables are alive.
    pub lookup_secs: f64,
    /// Seconds more for each tenth of the entries that are dead.
    pub dead_tenth_secs: f64,
    /// Seconds that sending a batch to a peer takes, beside its bytes.
    pub send_secs: f64,
    /// Seconds until a dead peer is given up: the limit of a dial.
    pub dead_peer_secs: f64,
}

impl Default for Calibration {
    /// What real nodes showed at 40 ms round trips when this was written.
    fn default() -> Self {
        Self {
            miss: 0.002,
            lookup_secs: 0.3,
            dead_tenth_secs: 0.5,
            send_secs: 0.2,
            dead_peer_secs: 10.0,
        }
    }
}

impl Calibration {
    /// What is in the folder of results, or the default, and which of these; the option `--miss` comes first.
    ///
    /// # Errors
    /// The option is no number.
    pub fn of(options: &Options, folder: &Path) -> Result<(Self, bool), String> {
        let text = std::fs::read_to_string(folder.join(FILE)).ok();
        let measured = text.is_some();
        let mut own = Self::default();
        for line in text.unwrap_or_default().lines() {
            let Some((name, value)) = line.split_once('=') else {
                continue;
            };
            let Ok(value) = value.trim().parse::<f64>() else {
                continue;
            };
            match name.trim() {
                "miss" => own.miss = value,
                "lookup_secs" => own.lookup_secs = value,
                "dead_tenth_secs" => own.dead_tenth_secs = value,
                _ => {}
            }
        }
        own.miss = options.get("miss", own.miss * 100.0)? / 100.0;
        Ok((own, measured))
    }

    /// Leaves it for the model.
    ///
    /// # Errors
    /// As for files.
    pub fn save(&self, folder: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let text = format!(
            "miss={:.5}\nlookup_secs={:.4}\ndead_tenth_secs={:.4}\n",
            self.miss, self.lookup_secs, self.dead_tenth_secs
        );
        std::fs::write(folder.join(FILE), text)
    }

    /// How long a lookup takes while this share of all routing table entries is dead.
    pub fn lookup_took(&self, dead: f64) -> f64 {
        self.lookup_secs + self.dead_tenth_secs * dead * 10.0
    }
}
