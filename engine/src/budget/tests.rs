//! Charges, waiting, order, and bodies that are half received.

use futures_util::FutureExt as _;

use super::*;

const FLAG: &str = "--max-memory-bytes";

/// 100 bytes, of which 40 are kept for the body that has waited longest.
fn budget() -> Budget {
    Budget::new(Bounds { bytes: 100, largest_body: 40, wait: Duration::from_secs(5), flag: FLAG })
}

#[test]
fn charges_are_released_when_they_are_dropped() {
    let budget = budget();
    let mut charge = budget.charge();
    charge.try_grow(60).unwrap();
    assert_eq!(charge.try_grow(1).unwrap_err(), Exhausted::Full { bytes: 1, used: 60, most: 100, flag: FLAG });
    charge.try_force(40).unwrap();
    assert!(charge.try_force(1).is_err());
    charge.force(7);
    assert_eq!((budget.used(), budget.refusals()), (107, 2));
    drop(charge);
    assert_eq!(budget.used(), 0);
}

#[test]
fn what_alone_is_too_large_is_refused_at_once() {
    let budget = budget();
    assert!(budget.check(40).is_ok());
    assert_eq!(budget.check(41), Err(Exhausted::Alone { bytes: 41, most: 40, flag: FLAG }));
    assert!(Budget::unlimited().check(usize::MAX / 2).is_ok());
}

#[tokio::test]
async fn those_who_wait_are_served_in_order() {
    let budget = budget();
    let [mut holder, mut first, mut second, mut late] = [(); 4].map(|()| budget.charge());
    holder.force(100);
    let mut first = Box::pin(first.grow(30, 40));
    let mut second = Box::pin(second.grow(10, 10));
    assert!(first.as_mut().now_or_never().is_none());
    assert!(second.as_mut().now_or_never().is_none());
    drop(holder);
    assert!(!late.take(61), "never more than is free");
    assert_eq!(first.await, Ok(()));
    assert_eq!(second.await, Ok(()));
    assert!(late.take(20));
}

#[tokio::test]
async fn nobody_overtakes_a_body_that_waits() {
    let budget = budget();
    let [mut holder, mut first, mut late] = [(); 3].map(|()| budget.charge());
    holder.force(90);
    let mut first = Box::pin(first.grow(30, 40));
    assert!(first.as_mut().now_or_never().is_none());
    assert!(late.try_grow(1).is_err());
    drop(first);
    drop(holder);
    assert_eq!(late.try_grow(1), Ok(()));
}

#[tokio::test]
async fn waiting_has_an_end() {
    let budget = Budget::new(Bounds { wait: Duration::ZERO, ..budget().0.bounds });
    let [mut holder, mut first] = [(); 2].map(|()| budget.charge());
    holder.force(90);
    assert_eq!(first.grow(30, 30).await, Err(Exhausted::Full { bytes: 30, used: 90, most: 100, flag: FLAG }));
    drop(holder);
    assert_eq!(first.grow(60, 60).await, Ok(()), "nobody is left in front");
}

/// Six bodies of 40 bytes share 100 bytes: each has a first part, and all of them become complete.
#[tokio::test]
async fn half_received_bodies_do_not_wait_for_each_other() {
    let budget = budget();
    let mut bodies: Vec<_> = (0..6).map(|_| budget.charge()).collect();
    bodies.iter_mut().for_each(|body| body.try_grow(10).unwrap());
    let mut receiving = Vec::new();
    for mut body in bodies {
        receiving.push(tokio::spawn(async move {
            while body.bytes() < 40 {
                let (bytes, left) = (5, 40 - body.bytes());
                body.grow(bytes, left).await?;
                tokio::task::yield_now().await;
            }
            body.complete();
            Ok::<_, Exhausted>(())
        }));
    }
    for body in receiving {
        assert_eq!(body.await.unwrap(), Ok(()));
    }
    assert_eq!(budget.used(), 0);
}
