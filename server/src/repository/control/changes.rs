//! Polling: what is new, changed or gone on disk.

use std::sync::Arc;

use super::repository::{Mode, Repository};
use crate::repository::{error::RepositoryError, fingerprint::Fingerprint};

impl Repository {
    /// Looks for changes at the mode's interval, for ever; at once done in other modes.
    pub async fn poll(self: Arc<Self>) {
        let Mode::Poll(interval) = self.options.mode else { return };
        loop {
            tokio::time::sleep(interval).await;
            self.poll_once().await;
        }
    }

    /// Loads what is new or has changed on disk, unloads what is gone.
    pub async fn poll_once(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || {
            let names = this.names_on_disk()?;
            Ok(names.into_iter().map(|name| (Fingerprint::of(&this.options.roots, &name), name)).collect::<Vec<_>>())
        });
        let on_disk = match looked.await {
            Ok(Ok(on_disk)) => on_disk,
            Ok(Err(error)) => {
                let error: RepositoryError = error;
                return tracing::warn!(%error, "cannot look for changes in the repository");
            }
            Err(error) => return tracing::error!(%error, "cannot look for changes in the repository"),
        };
        let known: Vec<_> = self.entries.lock().iter().map(|(name, entry)| (name.clone(), Arc::clone(entry))).collect();
        for (name, entry) in &known {
            // The lock is never held across this loop: loads of other tasks end.
            let mut entry = entry.lock().await;
            if on_disk.iter().all(|(_, there)| there != name) && entry.fingerprint.take().is_some() {
                drop(entry);
                tracing::info!(service = self.catalog.name().as_str(), model = name, "gone from the repository");
                self.unload_model(name).await;
            }
        }
        let mut changed = Vec::new();
        for (fingerprint, name) in on_disk {
            let entry = self.entry(&name).lock_owned().await;
            if entry.fingerprint.as_ref() != Some(&fingerprint) {
                changed.push(name);
            }
        }
        for (model, error) in self.load_all(&changed).await {
            tracing::error!(model, %error, "a changed model cannot be loaded");
        }
    }
}
