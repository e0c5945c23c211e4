//! Polling: finds new, changed and deleted models.

use std::sync::Arc;

use super::repository::{Mode, Repository};
use crate::repository::{error::RepositoryError, fingerprint::Fingerprint};

impl Repository {
    /// Applies changes on disk at the mode's interval, and never returns; returns at once in other modes.
    pub async fn poll(self: Arc<Self>) {
        let Mode::Poll(interval) = self.options.mode else { return };
        loop {
            tokio::time::sleep(interval).await;
            self.poll_once().await;
        }
    }

    /// Loads models that are new or changed, and unloads deleted ones.
    pub async fn poll_once(self: &Arc<Self>) {
        for error in self.refresh().await {
            tracing::warn!(%error, "cannot look for changes in the repository");
        }
        let this = Arc::clone(self);
        let listed = tokio::task::spawn_blocking(move || {
            let names = this.names_on_disk()?;
            Ok(names
                .into_iter()
                .map(|name| (Fingerprint::of(this.options.roots.folders(), &name), name))
                .collect::<Vec<_>>())
        });
        let on_disk = match listed.await {
            Ok(Ok(on_disk)) => on_disk,
            Ok(Err(error)) => {
                let error: RepositoryError = error;
                return tracing::warn!(%error, "cannot look for changes in the repository");
            }
            Err(error) => return tracing::error!(%error, "cannot look for changes in the repository"),
        };
        let known: Vec<_> = self.entries.lock().iter().map(|(name, entry)| (name.clone(), Arc::clone(entry))).collect();
        for (name, entry) in &known {
            // No lock is held across iterations, so loads of other tasks can finish.
            let mut entry = entry.lock().await;
            if on_disk.iter().all(|(_, found)| found != name) && entry.fingerprint.take().is_some() {
                drop(entry);
                tracing::info!(
                    service = self.catalog.name().as_str(),
                    model = name,
                    "model was deleted from the repository; unloading it"
                );
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
            tracing::error!(model, %error, "cannot load a new or changed model");
        }
    }
}
