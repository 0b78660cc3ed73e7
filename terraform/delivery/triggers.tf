# When builds start. A push to main starts two: `plan` stores a plan for the commit, `deploy` waits for an approval and
# then applies what was stored. Approve when the plan is there and was read; before, the apply finds nothing and says
# so. A pull request starts `review`, which ends with a plan to read. A build has the account of its trigger, whatever
# the repository's file says.

locals {
  # Triggers of a repository are in its region.
  build_region = split("/", var.repository)[3]

  substitutions = {
    _REGION       = var.region
    _STATE_BUCKET = google_storage_bucket.state.name
  }
}

resource "google_cloudbuild_trigger" "review" {
  name            = "mailmirror-review"
  description     = "Checks, tests and plans a pull request."
  location        = local.build_region
  filename        = "cloudbuild.yaml"
  service_account = google_service_account.stage["review"].id
  substitutions   = merge(local.substitutions, { _PLANS = "reviews" })

  repository_event_config {
    repository = var.repository

    pull_request {
      branch = "^main$"
      # Of somebody who may not write to the repository, a pull request is built when somebody who may comments /gcbrun.
      comment_control = "COMMENTS_ENABLED_FOR_EXTERNAL_CONTRIBUTORS_ONLY"
    }
  }
}

resource "google_cloudbuild_trigger" "plan" {
  name            = "mailmirror-plan"
  description     = "Checks, tests and plans a commit of main, and stores the plan."
  location        = local.build_region
  filename        = "cloudbuild.yaml"
  service_account = google_service_account.stage["plan"].id
  substitutions   = merge(local.substitutions, { _PLANS = "plans" })

  repository_event_config {
    repository = var.repository

    push {
      branch = "^main$"
    }
  }
}

resource "google_cloudbuild_trigger" "deploy" {
  name            = "mailmirror-deploy"
  description     = "Applies the stored plan of a commit of main, once approved."
  location        = local.build_region
  filename        = "cloudbuild.apply.yaml"
  service_account = google_service_account.stage["deploy"].id
  substitutions   = { _STATE_BUCKET = google_storage_bucket.state.name }

  repository_event_config {
    repository = var.repository

    push {
      branch = "^main$"
    }
  }

  approval_config {
    approval_required = true
  }
}
