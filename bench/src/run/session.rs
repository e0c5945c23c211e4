//! Runs the plan from start to end; keeps report and journal.

use std::time::{Duration, Instant};

use crate::{
    model::{block::Measured, cell::Cell, lane::Lane, report::Report},
    run::{
        client_cost::Costs,
        clock::RunClock,
        error::RunError,
        folder::save,
        journal::{Journal, Unfinished},
        plan::Plan,
        setup::{Outcome, Run},
        stage::Driver,
        until_decided::Followed,
    },
    study::hypotheses::to_decide,
};

impl Run<'_> {
    /// Carries out the run.
    ///
    /// # Errors
    /// [`RunError`]; failed requests are not errors but data in the report.
    pub async fn run(self) -> Result<Outcome, RunError> {
        let started = Instant::now();
        let before = self.resume.as_ref().map_or(Duration::ZERO, Unfinished::elapsed);
        let clock = RunClock { epoch: started.checked_sub(before).unwrap_or(started), cancel: self.stop.now.clone() };
        let (mut report, folder, mut clients) = self.begin(&clock).await?;
        let entries = self.resume.as_ref().map_or(&[][..], |resume| &resume.entries);
        let mut journal = Journal::begin(&folder, &report, entries)?;
        let lanes: Vec<Lane> = self.targets.iter().map(|target| target.lane).collect();
        let driver = Driver { run: &self, clock: clock.clone() };
        let plan = Plan::new(&self.settings, &lanes);
        let costs = self.client_costs(&plan, &clients).await?;
        if let Some(until) = self.settings.until_decided {
            let stages = Followed::all(&plan, &to_decide(&self.settings, &lanes), until.margin);
            let (measured, complete) = driver.until_decided(stages, &mut clients, &mut journal).await?;
            report.interrupted |= !complete || self.stop.soon.is_cancelled();
            self.add_cells(&mut report, measured, &costs);
        }
        let fixed = plan.stages.iter().enumerate().filter(|_| self.settings.until_decided.is_none());
        for (index, stage) in fixed {
            if self.stop.soon.is_cancelled() {
                report.interrupted = true;
                break;
            }
            let (measured, complete) = driver.whole(index, stage, &mut clients, &mut journal).await?;
            report.interrupted |= !complete;
            self.add_cells(&mut report, measured, &costs);
            save(&mut report, &clock, &folder)?;
        }
        for client in &mut clients {
            client.unshare().await;
        }
        save(&mut report, &clock, &folder)?;
        if !report.interrupted {
            journal.finish()?;
        }
        self.progress.finish();
        Ok(Outcome { report, folder })
    }

    fn add_cells(&self, report: &mut Report, measured: Vec<Measured>, costs: &Costs) {
        for measured in measured {
            let work_ms = report.client_work_ms(measured.variant.payload);
            if let Some(mut cell) = Cell::new(measured, work_ms, self.settings.seed) {
                cell.client_ms = costs.of(&cell);
                self.progress.cell(&cell);
                report.cells.push(cell);
            }
        }
    }
}
