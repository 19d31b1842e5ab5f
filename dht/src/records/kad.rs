//! The record store as Kademlia sees it. Everything is answered from memory.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};

use super::Records;
use super::tables::ANSWER_PROVIDERS;
use crate::Key;
use crate::origin::Origin;

/// The record store, for one Kademlia behaviour.
pub(crate) struct KadStore(pub(crate) Arc<Records>);

/// Keys of another length than ours are nobody's.
pub(crate) fn own_key(key: &RecordKey) -> Option<Key> {
    key.as_ref().try_into().ok()
}

impl KadStore {
    /// Unix seconds as an instant of this process.
    fn instant(&self, expires: u32) -> Option<Instant> {
        let left = expires.saturating_sub(self.0.now());
        Instant::now().checked_add(Duration::from_secs(left.into()))
    }

    fn unix(&self, expires: Option<Instant>) -> u32 {
        let left = expires.map(|at| at.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| u32::try_from(left.as_secs()).ok());
        left.map_or(u32::MAX, |left| self.0.now().saturating_add(left))
    }
}

impl RecordStore for KadStore {
    type RecordsIter<'a> = std::iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        let own = own_key(key)?;
        if let Some(value) = self.0.own_sealed(&own) {
            return Some(Cow::Owned(Record::new(key.clone(), value)));
        }
        let now = self.0.now();
        let tables = self.0.tables();
        let (value, expires) = tables.value(&own, now)?;
        Some(Cow::Owned(Record {
            key: key.clone(),
            value: value.to_vec(),
            // Nobody vouches for this field, so nobody is told one.
            publisher: None,
            expires: self.instant(expires),
        }))
    }

    fn put(&mut self, record: Record) -> Result<()> {
        let key = own_key(&record.key).ok_or(Error::ValueTooLarge)?;
        let source = record.publisher.unwrap_or(self.0.me);
        let (origin, now) = (Origin::default(), self.0.now());
        let mut tables = self.0.tables();
        tables
            .put_value(key, record.value, &source, origin, now)
            .map_err(|_| Error::MaxRecords)
    }

    fn remove(&mut self, key: &RecordKey) {
        if let Some(key) = own_key(key) {
            self.0.tables().remove_value(&key);
        }
    }

    /// Empty: Kademlia would use it for its own replication, which is off.
    fn records(&self) -> Self::RecordsIter<'_> {
        std::iter::empty()
    }

    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        let key = own_key(&record.key).ok_or(Error::MaxProvidedKeys)?;
        let (expires, now) = (self.unix(record.expires), self.0.now());
        let mut tables = self.0.tables();
        let origin = Origin::default();
        let added = tables.add_provider(key, &record.provider, origin, expires, now);
        added.map_err(|_| Error::MaxProvidedKeys)?;
        tables.set_addrs(&record.provider, &record.addresses);
        Ok(())
    }

    /// This node first, if it provides the key: its own word needs no record.
    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        let Some(own) = own_key(key) else {
            return Vec::new();
        };
        let mine = self.0.provides(&own);
        let now = self.0.now();
        let tables = self.0.tables();
        let mut records = Vec::new();
        if mine {
            records.push(ProviderRecord {
                key: key.clone(),
                provider: self.0.me,
                expires: None,
                addresses: tables.addrs(&self.0.me),
            });
        }
        records.extend(
            tables
                .providers(&own, now, rand::random())
                .into_iter()
                .take(ANSWER_PROVIDERS - usize::from(mine))
                .map(|provider| ProviderRecord {
                    key: key.clone(),
                    provider: provider.peer,
                    expires: self.instant(provider.expires),
                    addresses: provider.addrs,
                }),
        );
        records
    }

    /// Empty: Kademlia would use it for its own publishing, which is off.
    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        if let Some(key) = own_key(key) {
            self.0.tables().remove_provider(&key, provider);
        }
    }
}
