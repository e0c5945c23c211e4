//! Metrics of the memory that requests hold.

use quintet_engine::Budget;

use super::metrics::{
    Format,
    text::{Family, labels},
};

/// The metrics of the process's budget in this format; nothing without a bound.
pub fn render(budget: &Budget, format: Format) -> String {
    if budget.bytes() == usize::MAX {
        return String::new();
    }
    let family = |kind, name, help, value: u64| {
        let mut family = Family::new(format, kind, (name, help));
        family.sample(&labels(vec![]), value);
        family
    };
    let families = [
        family("gauge", "quintet_memory_limit_bytes", "Memory that requests may hold, in bytes", budget.bytes() as u64),
        family("gauge", "quintet_memory_used_bytes", "Memory that requests hold, in bytes", budget.used() as u64),
        family(
            "counter",
            "quintet_memory_refusals_total",
            "Number of times that a request was refused memory",
            budget.refusals(),
        ),
    ];
    families.into_iter().filter_map(Family::into_text).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quintet_engine::budget::Bounds;

    use super::*;

    #[test]
    fn a_bounded_budget_has_metrics() {
        assert_eq!(render(&Budget::unlimited(), Format::Text), "");
        let budget = Budget::new(Bounds { bytes: 100, largest_body: 50, wait: Duration::ZERO, flag: "--flag" });
        let mut charge = budget.charge();
        charge.force(7);
        assert!(charge.try_force(100).is_err());
        let text = render(&budget, Format::Text);
        for line in ["quintet_memory_limit_bytes 100", "quintet_memory_used_bytes 7", "quintet_memory_refusals_total 1"]
        {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
