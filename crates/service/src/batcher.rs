//! Natural batching: what arrives while a batch is being worked on makes up the next one. No timer, so a lone item waits
//! for nobody.

use std::future::Future;

use tokio::sync::{mpsc, oneshot};

/// Items that may wait beyond those that are being worked on; more wait in their callers.
const QUEUE: usize = 1024;

/// Hands items to one worker, as many at a time as there are. Clones share it; it ends with the last of them.
#[derive(Debug)]
pub struct Batcher<T, R> {
    queue: mpsc::Sender<(T, oneshot::Sender<R>)>,
}

impl<T: Send + 'static, R: Send + 'static> Batcher<T, R> {
    /// A worker that answers every item of a batch, in their order; a batch has 1 to `limit` items.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new<F, W>(limit: usize, work: F) -> Self
    where
        F: Fn(Vec<T>) -> W + Send + 'static,
        W: Future<Output = Vec<R>> + Send + 'static,
    {
        let (queue, mut waiting) = mpsc::channel::<(T, oneshot::Sender<R>)>(QUEUE);
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while waiting.recv_many(&mut batch, limit).await > 0 {
                let (items, callers): (Vec<T>, Vec<_>) = batch.drain(..).unzip();
                // In a task of its own, so that a panic costs one batch.
                let Ok(answers) = tokio::spawn(work(items)).await else { continue };
                for (caller, answer) in callers.into_iter().zip(answers) {
                    // Whoever has gone will ask again.
                    let _ = caller.send(answer);
                }
            }
        });
        Self { queue }
    }

    /// The answer to an item; `None` where its batch has panicked. A caller that goes leaves its item behind, which is
    /// worked on all the same.
    pub async fn submit(&self, item: T) -> Option<R> {
        let (caller, answer) = oneshot::channel();
        self.queue.send((item, caller)).await.ok()?;
        answer.await.ok()
    }
}

impl<T, R> Clone for Batcher<T, R> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn what_arrives_meanwhile_is_the_next_batch() {
        let (sizes, gate) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Semaphore::new(0)));
        let batcher = Batcher::new(100, {
            let (sizes, gate) = (Arc::clone(&sizes), Arc::clone(&gate));
            move |items: Vec<u32>| {
                sizes.lock().expect("no panic").push(items.len());
                let gate = Arc::clone(&gate);
                async move {
                    gate.acquire().await.expect("open").forget();
                    items.into_iter().map(|item| item * 2).collect::<Vec<u32>>()
                }
            }
        });
        let first = tokio::spawn({
            let batcher = batcher.clone();
            async move { batcher.submit(1).await }
        });
        while sizes.lock().expect("no panic").is_empty() {
            tokio::task::yield_now().await;
        }
        let others = join_all((2..=250).map(|item| batcher.submit(item)));
        let open = async {
            for _ in 0..4 {
                gate.add_permits(1);
                tokio::task::yield_now().await;
            }
        };
        let (others, ()) = tokio::join!(others, open);
        assert_eq!(first.await.expect("no panic"), Some(2));
        assert_eq!(others, (2..=250).map(|item| Some(item * 2)).collect::<Vec<_>>());
        assert_eq!(*sizes.lock().expect("no panic"), [1, 100, 100, 49]);
    }

    #[tokio::test]
    async fn a_panic_costs_one_batch() {
        let batcher = Batcher::new(1, |items: Vec<bool>| async move {
            assert!(items[0], "as ordered");
            items
        });
        assert_eq!(batcher.submit(false).await, None);
        assert_eq!(batcher.submit(true).await, Some(true));
    }
}
