//! A folder that mails are written to, where they are not sent.

use std::path::{Path, PathBuf};

use tokio::fs::{self, DirBuilder, OpenOptions};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

/// A file each mail, for its owner alone: what is in it proves who one is.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Writes a mail under the id of its event; at no time is there a part of it under that name.
    pub(super) async fn write(&self, event_id: Uuid, mail: &[u8]) -> std::io::Result<()> {
        self.make().await?;
        let (begun, whole) = (self.0.join(format!(".{event_id}")), self.0.join(format!("{event_id}.eml")));
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&begun).await?;
        file.write_all(mail).await?;
        file.sync_all().await?;
        fs::rename(&begun, &whole).await
    }

    async fn make(&self) -> std::io::Result<()> {
        if let Some(above) = self.0.parent().filter(|above| *above != Path::new("")) {
            fs::create_dir_all(above).await?;
        }
        match DirBuilder::new().mode(0o700).create(&self.0).await {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_mail_is_one_file_for_its_owner_alone_however_often_it_is_written() {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("data").join("mail");
        let folder = Folder::new(path.clone());
        let id = Uuid::from_u128(5);
        for text in ["a first time", "again"] {
            folder.write(id, text.as_bytes()).await.unwrap();
        }
        let files: Vec<_> = std::fs::read_dir(&path).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(files, [path.join(format!("{id}.eml"))]);
        assert_eq!(std::fs::read_to_string(&files[0]).unwrap(), "again");
        let mode = |of: &Path| std::fs::metadata(of).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&files[0])), (0o700, 0o600));
    }
}
