output "state_bucket" {
  description = "The bucket of the state: `make deploy STATE=` of this name works on the same deployment as the builds do."
  value       = google_storage_bucket.state.name
}

output "values" {
  description = "Where builds read the values of the deployment's variables: a terraform.tfvars, put there by a person before the first build."
  value       = "gs://${google_storage_bucket.state.name}/terraform.tfvars"
}

output "plans" {
  description = "Where the plans of main are, by commit, each with a plan.txt to read before its apply is approved."
  value       = "gs://${google_storage_bucket.state.name}/plans/"
}

output "service_accounts" {
  description = "E-mail addresses of the accounts that builds work as: review, plan and deploy."
  value       = { for stage, account in google_service_account.stage : stage => account.email }
}

output "triggers" {
  description = "Full names of the triggers, such as `gcloud builds triggers run` takes them."
  value = {
    review = google_cloudbuild_trigger.review.id
    plan   = google_cloudbuild_trigger.plan.id
    deploy = google_cloudbuild_trigger.deploy.id
  }
}
