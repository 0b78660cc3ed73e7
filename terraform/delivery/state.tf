# The state of Mailmirror's configuration, the values of its variables and the plans that builds make.
#   mailmirror/default.tfstate, .tflock   state and its lock, where `make plan STATE=` and `make deploy STATE=` put them
#   terraform.tfvars                      values of the deployment, put there by a person
#   reviews/COMMIT/  plans/COMMIT/        plans of pull requests, to read; plans of main, to apply

locals {
  # cloudbuild.yaml and cloudbuild.apply.yaml know it by this name.
  state_bucket = "${var.project}-mailmirror-state"
}

resource "google_storage_bucket" "state" {
  # checkov:skip=CKV_GCP_62:Audit logs, which Google prefers to usage logs, are the project's choice.

  name                        = local.state_bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  # A state that was damaged is brought back from an earlier version.
  versioning {
    enabled = true
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }

    condition {
      num_newer_versions = 50
      with_state         = "ARCHIVED"
    }
  }

  # A plan that old is better made anew.
  lifecycle_rule {
    action {
      type = "Delete"
    }

    condition {
      age            = 30
      matches_prefix = ["plans/", "reviews/"]
    }
  }

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_project_service.api]
}

# Reading all of it: there is no secret in it, a plan begins with the state, and an apply with the plan.
resource "google_storage_bucket_iam_member" "viewer" {
  for_each = toset(["review", "plan"])

  bucket = google_storage_bucket.state.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.stage[each.key].member
}

# A plan holds the lock while it reads.
resource "google_storage_bucket_iam_member" "lock" {
  for_each = toset(["review", "plan"])

  bucket = google_storage_bucket.state.name
  role   = "roles/storage.objectUser"
  member = google_service_account.stage[each.key].member

  condition {
    title      = "mailmirror-lock"
    expression = "resource.name.endsWith(\".tflock\")"
  }
}

# Each stores its plans beneath one folder. What pull requests run was read by nobody: it must not write what is
# applied.
resource "google_storage_bucket_iam_member" "plans" {
  for_each = { review = "reviews", plan = "plans" }

  bucket = google_storage_bucket.state.name
  role   = "roles/storage.objectUser"
  member = google_service_account.stage[each.key].member

  condition {
    title      = "mailmirror-${each.value}"
    expression = "resource.name.startsWith(\"projects/_/buckets/${local.state_bucket}/objects/${each.value}/\")"
  }
}

# Where there is no state yet, Terraform makes an empty one before the first plan. Creating is not replacing: a state
# that is there is out of reach. Until main was planned once, no pull request can be.
resource "google_storage_bucket_iam_member" "first_state" {
  bucket = google_storage_bucket.state.name
  role   = "roles/storage.objectCreator"
  member = google_service_account.stage["plan"].member

  condition {
    title      = "mailmirror-first-state"
    expression = "resource.name.endsWith(\".tfstate\")"
  }
}

resource "google_storage_bucket_iam_member" "deploy" {
  bucket = google_storage_bucket.state.name
  role   = "roles/storage.objectUser"
  member = google_service_account.stage["deploy"].member
}
