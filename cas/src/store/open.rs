//! Opening a store: in its folder, to read only, in memory; and building its index anew.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::clones::Clones;
use super::core::Core;
use super::entry;
use super::index::Index;
use super::layout::{self, Layout};
use super::medium::{DirMedium, Medium};
use super::memory::{MemoryIndex, MemoryMedium};
use super::pack::Packs;
use super::recovery::{self, Recovered};
use super::runs::Runs;
use super::sled::SledIndex;
use super::space::Space;
use super::syncer::Syncer;
use super::types::{Rebuilt, StoreConfig};
use super::unfinished::Unfinished;
use super::{Inner, Store};
use crate::error::{IndexError, StoreError};

impl Store {
    /// Opens the store in `dir`, creating it when there is none, and brings it in order after a crash. A
    /// folder that is created belongs to its owner alone (mode 0700).
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it open, [`StoreError::NewerVersion`] when a newer
    /// program wrote it; otherwise what the file system says. A store on a read-only medium cannot be
    /// opened like this: see [`Store::open_read_only`].
    pub fn open(dir: &Path, config: StoreConfig) -> Result<Self, StoreError> {
        open(dir, &config).map(|(store, _)| store)
    }

    /// Opens the store in `dir` without writing anything: its index is built in memory from the headers
    /// of its packs. Everything that writes is refused with [`StoreError::ReadOnly`].
    ///
    /// # Errors
    /// As [`Store::open`]; also when there is no store.
    pub fn open_read_only(dir: &Path) -> Result<Self, StoreError> {
        let layout = Layout::open_read_only(dir)?;
        let medium = DirMedium::read_only(layout.packs_dir());
        let packs = Packs::open(Arc::new(medium), layout.store_id(), u64::MAX)?;
        let index: Arc<dyn Index> = Arc::<MemoryIndex>::default();
        let clones = Clones::read_only(layout.clones_dir());
        let core = recovered(index, packs, clones, true)?;
        Ok(Self::around(core, Some(layout)))
    }

    /// Whether nothing can be written.
    pub fn is_read_only(&self) -> bool {
        self.core.is_read_only()
    }

    /// Builds the index of the store in `dir` anew from its packs. The old one is kept aside.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn rebuild_index(dir: &Path) -> Result<Rebuilt, StoreError> {
        if !layout::exists(dir) {
            return Err(StoreError::NotAStore {
                path: dir.to_owned(),
            });
        }
        let layout = Layout::open(dir)?;
        let aside = layout.set_index_aside()?;
        drop(layout);
        let (store, found) = open(dir, &StoreConfig::default())?;
        let mut files = 0;
        store
            .core
            .noting((store.core.index).scan(entry::FILE_PREFIX, &mut |_, _| {
                files += 1;
                Ok(std::ops::ControlFlow::Continue(()))
            }))?;
        Ok(Rebuilt {
            packs: found.packs,
            chunks: store.core.totals().chunks,
            files,
            bad_records: found.bad_records,
            aside: aside.exists().then_some(aside),
        })
    }

    /// A store that is forgotten with its last clone; for tests of what is built on stores.
    ///
    /// # Errors
    /// None in practice.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::over(
            Arc::<MemoryIndex>::default(),
            Arc::<MemoryMedium>::default(),
            u64::MAX,
        )
    }

    /// A store over any index and medium, recovered as after a crash.
    pub(super) fn over(
        index: Arc<dyn Index>,
        medium: Arc<dyn Medium>,
        pack_bytes: u64,
    ) -> Result<Self, StoreError> {
        let packs = Packs::open(medium, [0; 16], pack_bytes)?;
        let core = recovered(index, packs, Clones::none(), false)?;
        Ok(Self::around(core, None))
    }

    fn around(core: Arc<Core>, layout: Option<Layout>) -> Self {
        let inner = Inner {
            core: Some(Arc::clone(&core)),
            layout,
        };
        Self {
            core,
            _inner: Arc::new(inner),
        }
    }

    /// Whether there is a store in `dir`: [`Store::open`] would create one otherwise.
    pub fn exists(dir: &Path) -> bool {
        layout::exists(dir)
    }

    /// The version of the store in `dir`; `None` when there is none.
    ///
    /// # Errors
    /// When it is of a version that cannot be read, or no store at all.
    pub fn version_in(dir: &Path) -> Result<Option<u16>, StoreError> {
        layout::version_in(dir)
    }

    /// Whether the store in `dir` is open somewhere, and by which process: `Some(None)` means by one that
    /// cannot be named.
    ///
    /// # Errors
    /// When the lock file cannot be looked at.
    pub fn locked_by(dir: &Path) -> io::Result<Option<Option<u32>>> {
        layout::locked_by(dir)
    }
}

/// A store whose space nobody watches: one in memory, or one that is only read.
fn recovered(
    index: Arc<dyn Index>,
    packs: Packs,
    clones: Clones,
    read_only: bool,
) -> Result<Arc<Core>, StoreError> {
    let found = recovery::recover(&index, &packs, &Space::unlimited(), read_only)?;
    let core = Core::new(
        index,
        packs,
        Space::unlimited(),
        (clones, Unfinished::new(None)),
        found.ledger,
        None,
        read_only,
    );
    core.load_max_bytes()?;
    core.settle_directories()?;
    Ok(Arc::new(core))
}

fn open(dir: &Path, config: &StoreConfig) -> Result<(Store, Recovered), StoreError> {
    let layout = Layout::open(dir)?;
    let space = Space::open(dir, config.reserve_bytes, config.min_free_bytes)
        .map_err(StoreError::io("measure the space of", dir))?;
    let packs_dir = layout.packs_dir();
    let medium = DirMedium::new(packs_dir.clone()).map_err(StoreError::io("create", &packs_dir))?;
    let medium = medium.with_direct_io(config.direct_io);
    let packs = Packs::open(Arc::new(medium), layout.store_id(), config.pack_bytes)?
        .with_kept_buffers(config.kept_buffers_bytes);
    space.check_index()?;
    let index: Arc<dyn Index> = Arc::new(open_index(&layout, config.index_cache_bytes)?);
    let mut found = recovery::recover(&index, &packs, &space, false)?;
    let syncer =
        Syncer::start(Arc::clone(&index)).map_err(StoreError::io("start a thread for", dir))?;
    space.refill();
    let ledger = std::mem::take(&mut found.ledger);
    let clones = Clones::open(layout.clones_dir(), &ledger);
    let unfinished = Unfinished::new(Some(layout.unfinished_dir()));
    let syncer = Some(syncer);
    let core = Core::new(
        index,
        packs,
        space,
        (clones, unfinished),
        ledger,
        syncer,
        false,
    );
    core.load_max_bytes()?;
    core.settle_directories()?;
    core.take_up_unfinished();
    Ok((Store::around(Arc::new(core), Some(layout)), found))
}

/// Opens the index; one that is damaged is put aside, and recovery builds a new one from the packs.
fn open_index(layout: &Layout, cache_bytes: u64) -> Result<Runs<SledIndex>, StoreError> {
    let dir = layout.index_dir();
    let open = |is_clean| SledIndex::open(&dir, is_clean, cache_bytes).map(Runs::new);
    let checked = open(layout.was_clean()).and_then(|index| {
        if !layout.was_clean() {
            recovery::check_index(&index)?;
        }
        Ok(index)
    });
    match checked {
        Ok(index) => Ok(index),
        Err(IndexError::Io(error)) => Err(IndexError::Io(error).into()),
        Err(error) => {
            let aside = layout.set_index_aside()?;
            tracing::warn!(%error, aside = %aside.display(), "index unusable: put aside");
            Ok(open(false)?)
        }
    }
}
