//! A directory of files that are written by holders of locks, and refuse those that are late.

use keylatch_etcd::fenced::{FencedStore, Written};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

/// A store in a directory.
///
/// Between machines, the file system's locks and renames have to work between machines, too.
/// A file is its fence in 16 hexadecimal digits, a line end, and the content. It is replaced by a rename, so a reader sees
/// all of a write or nothing of it.
#[derive(Debug)]
pub(crate) struct FileStore {
    folder: PathBuf,
}

impl FileStore {
    /// Uses a directory, and makes it if it does not exist.
    pub(crate) fn open(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    fn stored(&self, name: &str) -> io::Result<Option<(u64, Vec<u8>)>> {
        let mut content = match fs::read(self.folder.join(name)) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("{name} does not begin with a fence"));
        let head = content.get(..17).filter(|head| head[16] == b'\n').ok_or_else(damaged)?;
        let digits = std::str::from_utf8(&head[..16]).map_err(|_| damaged())?;
        let fence = u64::from_str_radix(digits, 16).map_err(|_| damaged())?;
        Ok(Some((fence, content.split_off(17))))
    }
}

impl FencedStore for FileStore {
    type Error = io::Error;

    fn write(&self, name: &str, fence: u64, content: &[u8]) -> io::Result<Written> {
        // Comparing and replacing is one step for all processes that have the directory. The lock is held for the time of
        // one write, and ends with the process.
        let turn = File::create(self.folder.join(format!(".{name}.lock")))?;
        turn.lock()?;
        if self.stored(name)?.is_some_and(|(greatest, _)| fence < greatest) {
            return Ok(Written::Refused);
        }
        let fresh = self.folder.join(format!(".{name}.new"));
        let mut file = File::create(&fresh)?;
        writeln!(file, "{fence:016x}")?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&fresh, self.folder.join(name))?;
        File::open(&self.folder)?.sync_all()?;
        Ok(Written::Taken)
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.stored(name)?.map(|(_, content)| content))
    }
}
