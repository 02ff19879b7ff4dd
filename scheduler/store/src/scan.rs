//! Reading everything, page by page, as of one revision: for what must not have all of it in memory.

use std::sync::Arc;

use crate::{Entry, RangeError, Revision, Space, etcd, file};

/// A reading of every entry, in the order of keys.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Kept for as long as it is read from.
    space: Arc<Space>,
    revision: Revision,
    pages: Pages,
}

#[derive(Debug)]
enum Pages {
    /// All at once: it is in memory anyway.
    Memory(Vec<Entry>),
    File(Box<file::FileScan>),
    Etcd(etcd::EtcdScan),
}

impl Scan {
    pub(crate) async fn new(space: Arc<Space>) -> Result<Self, RangeError> {
        let (revision, pages) = match &*space {
            Space::Memory(memory) => {
                let (revision, mut lists) = memory.ranges(&[""]);
                (revision, Pages::Memory(lists.pop().unwrap_or_default()))
            }
            Space::File(file) => {
                let (revision, scan) = file.scan()?;
                (revision, Pages::File(Box::new(scan)))
            }
            Space::Etcd(etcd) => {
                let (revision, scan) = etcd.scan().await?;
                (revision, Pages::Etcd(scan))
            }
        };
        Ok(Self {
            space,
            revision,
            pages,
        })
    }

    /// The revision that is read.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// The next entries; none when all are read.
    pub(crate) async fn next(&mut self) -> Result<Vec<Entry>, RangeError> {
        match (&mut self.pages, &*self.space) {
            (Pages::Memory(entries), _) => Ok(std::mem::take(entries)),
            (Pages::File(scan), _) => scan.next(),
            (Pages::Etcd(scan), Space::Etcd(etcd)) => etcd.next_page(scan).await,
            (Pages::Etcd(_), _) => unreachable!("a scan of etcd is of a store in etcd"),
        }
    }
}
