//! Futures on WASI's `poll`: one that is waited for, and all that it waits for.
//!
//! Invariant: what is polled by another executor than this one blocks instead of being forgotten.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use wasip2::{
    clocks::monotonic_clock,
    io::poll::{self, Pollable},
};

thread_local! {
    /// Calls of [`wait`] that are in progress.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static NEXT: Cell<u64> = const { Cell::new(0) };
    /// What is waited for, and whom to tell.
    static WAITING: RefCell<BTreeMap<u64, (Rc<Pollable>, Waker)>> = const { RefCell::new(BTreeMap::new()) };
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// Runs a future to its end.
///
/// Panics when it waits for something that can never happen, such as the other end of a channel in another thread.
pub fn wait<F: IntoFuture>(future: F) -> F::Output {
    struct Depth;
    impl Drop for Depth {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
        }
    }
    DEPTH.set(DEPTH.get() + 1);
    let _depth = Depth;
    let mut future = pin!(future.into_future());
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(flag.clone());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        if !flag.0.swap(false, Relaxed) {
            wait_for_any();
            flag.0.store(false, Relaxed);
        }
    }
}

/// Waits until one of the things that are waited for has happened, and tells who waits.
fn wait_for_any() {
    let (ids, pollables): (Vec<u64>, Vec<Rc<Pollable>>) = WAITING.with_borrow(|all| {
        all.iter()
            .map(|(id, (pollable, _))| (*id, pollable.clone()))
            .unzip()
    });
    assert!(!ids.is_empty(), "a future waits for nothing that could happen");
    let all: Vec<&Pollable> = pollables.iter().map(Rc::as_ref).collect();
    let ready = poll::poll(&all);
    for index in ready {
        let id = usize::try_from(index).ok().and_then(|index| ids.get(index));
        let waiting = id.and_then(|id| WAITING.with_borrow_mut(|all| all.remove(id)));
        if let Some((_, waker)) = waiting {
            waker.wake();
        }
    }
}

/// Waits for what a pollable tells of.
pub(crate) struct Ready {
    pollable: Rc<Pollable>,
    id: u64,
}

pub(crate) fn ready(pollable: Pollable) -> Ready {
    let id = NEXT.get();
    NEXT.set(id + 1);
    Ready {
        pollable: Rc::new(pollable),
        id,
    }
}

impl Future for Ready {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.pollable.ready() {
            return Poll::Ready(());
        }
        if DEPTH.get() == 0 {
            self.pollable.block();
            return Poll::Ready(());
        }
        let waiting = (self.pollable.clone(), context.waker().clone());
        WAITING.with_borrow_mut(|all| all.insert(self.id, waiting));
        Poll::Pending
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        // The pollable goes before what it belongs to.
        WAITING.with_borrow_mut(|all| all.remove(&self.id));
    }
}

/// Waits for a time.
pub async fn sleep(time: Duration) {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    ready(monotonic_clock::subscribe_duration(nanos)).await;
}

/// One of several futures, or what it gave.
enum Joined<F: Future> {
    Going(Pin<Box<F>>),
    Gave(F::Output),
}

/// Runs futures side by side; answers what each gave, in their order.
pub async fn join<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let going = futures.into_iter().map(|future| Joined::Going(Box::pin(future)));
    let mut all: Vec<Joined<F>> = going.collect();
    std::future::poll_fn(|context| {
        let mut is_done = true;
        for one in &mut all {
            if let Joined::Going(future) = one {
                match future.as_mut().poll(context) {
                    Poll::Ready(output) => *one = Joined::Gave(output),
                    Poll::Pending => is_done = false,
                }
            }
        }
        match is_done {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    let outputs = all.into_iter().filter_map(|one| match one {
        Joined::Gave(output) => Some(output),
        Joined::Going(_) => None,
    });
    outputs.collect()
}

/// The first of two that is done.
pub(crate) async fn either<A: Future, B: Future>(one: A, other: B) -> Result<A::Output, B::Output> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = one.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        other.as_mut().poll(context).map(Err)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pending once, having woken whoever polls.
    async fn turn() {
        let mut is_done = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut is_done, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    #[test]
    fn a_future_that_wakes_itself_goes_on() {
        let sum = wait(async {
            let all = (1..=3).map(|n| async move {
                for _ in 0..n {
                    turn().await;
                }
                n
            });
            join(all).await
        });
        assert_eq!(sum, [1, 2, 3]);
    }

    #[test]
    fn the_first_of_two_is_taken() {
        let first = wait(either(turn(), async { 7 }));
        assert_eq!(first, Err(7));
    }

    #[test]
    #[should_panic(expected = "waits for nothing that could happen")]
    fn what_can_never_happen_is_not_waited_for() {
        wait(std::future::pending::<()>());
    }
}
